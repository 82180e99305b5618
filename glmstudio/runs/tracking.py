"""The figures of a run to an experiment tracker that its owner has installed: W&B, SwanLab or trackio.

`python -m glmstudio.runs.tracking RUN`, a child of the supervisor that reads `metrics.jsonl` on. A process of its own,
so that a tracker that fails, hangs or exits is told of, and the run goes on as if there were none.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.paths import ROOT
from glmstudio.rundir.metric_table import scalars
from glmstudio.rundir.record import RunFiles, RunRecord
from glmstudio.rundir.run import Run
from glmstudio.untrusted import problem

PROJECT = "glm-studio"
_PRIVATE = ("data", "validation", "warm_start", "device", "sample_prompt")  # settings that never leave the machine
_EVERY_S = 1.0
_FINISH_S = 30.0  # after the training ended

Options = Callable[[Run], dict[str, Any]]
# What `init` takes besides project and settings; `log` and `finish` are alike.
TRACKERS: dict[str, Options] = {
    "wandb": lambda run: {"name": run.name, "dir": str(run.path), "id": _id(run), "resume": "allow"},
    "swanlab": lambda run: {"experiment_name": run.name, "logdir": str(run.path / "swanlog")},
    "trackio": lambda run: {"name": run.name},
}


def start_tracker(record: RunRecord, folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes] | None:
    """The tracker of the run, if one is wanted; it ends once its standard input is closed."""
    if str(record.settings.get("report_to")) not in TRACKERS:
        return None
    argv = [sys.executable, "-m", "glmstudio.runs.tracking", str(folder)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)


def end_tracker(tracker: subprocess.Popen[bytes] | None) -> None:
    """Let it send the rest; one that takes too long is ended."""
    if tracker is None or tracker.stdin is None:
        return
    tracker.stdin.close()
    try:
        tracker.wait(_FINISH_S)
    except subprocess.TimeoutExpired:
        tracker.kill()
        tracker.wait()


def tracking_problem(run: Run) -> StudioError | None:
    """Why the tracker of a run does not get its figures."""
    return problem(read_table(run.path / RunFiles.TRACKER).get("problem"))


def track(run: Run, ended: threading.Event) -> None:
    """Send the figures of a run until it has `ended`. Raises StudioError."""
    name = str(run.settings.get("report_to"))
    if importlib.util.find_spec(name) is None:
        raise StudioError("runs.tracker_missing", tracker=name)
    try:
        tracker = importlib.import_module(name)
        # What a resumed run has measured before was sent then.
        offset = (run.path / RunFiles.METRICS).stat().st_size if run.record.resumed else 0
        settings = {key: value for key, value in run.settings.items() if key not in _PRIVATE}
        tracker.init(project=PROJECT, config=settings, **TRACKERS[name](run))
        last = False
        while not last:
            last = ended.wait(_EVERY_S)
            rows, offset = run.metrics(offset)
            for row in rows:
                tracker.log(scalars(row), step=row["step"])
        tracker.finish()
    except (Exception, SystemExit) as error:  # it is somebody else's program: whatever it raises is told
        raise StudioError("runs.tracker_failed", tracker=name, reason=_reason(error)) from error


def main(folder: Path) -> int:
    """Track until standard input is closed; a problem is written down for the page."""
    run, ended = Run(folder.name, folder), threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    told: dict[str, Any] = {}
    try:
        _tell(folder, told)
        track(run, ended)
    except StudioError as error:
        told = {"problem": error.to_json()}
        sys.stderr.write(f"{error}\n")
    _tell(folder, told)
    return 1 if told else 0


def _wait_for_end(ended: threading.Event) -> None:
    sys.stdin.buffer.read()
    ended.set()


def _tell(folder: Path, told: dict[str, Any]) -> None:
    if (folder / RunFiles.RECORD).exists():
        write_json(folder / RunFiles.TRACKER, told, parents=False)


def _id(run: Run) -> str:
    """The same for all attempts of a run, and for no other run."""
    return f"{int(1000 * run.record.created):x}"


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
