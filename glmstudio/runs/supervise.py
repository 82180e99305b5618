"""The process that owns one run: starts torchrun, waits, and writes down how it ended.

`python -m glmstudio.runs.supervise RUN_DIR`, in a session of its own. The launch line needs no hostname, no port and no
root: the processes of one machine meet in a file (`docs/runs.md`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from glmstudio.cluster.coordinator import Coordinator
from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.jobs.notification import notify
from glmstudio.paths import ROOT
from glmstudio.rundir.launch import launch_line, training_environment
from glmstudio.rundir.reasons import by_signal, reason
from glmstudio.rundir.record import RunFiles, RunRecord
from glmstudio.rundir.run import last_word
from glmstudio.runs.start import advance
from glmstudio.runs.tracking import end_tracker, start_tracker
from glmstudio.system import process
from glmstudio.system.portable.limits import raise_open_files
from glmstudio.system.portable.signals import HANG_UP, KILL, ignore

_LEAVE, _SWEEP = 2.0, 8.0  # seconds: what the training left may leave by itself, and is given up
_HERE = Path()
_OPEN_FILES = 65536  # the usual 1,024 are few for data loaders and connections


def main(folder: Path) -> int:
    """Run until the training ends, then give the GPU to the next run that waits; returns the training's exit code."""
    # A terminal that closes, or the studio's, must not end the run; a stop comes through `stop.json` and the agent.
    ignore(HANG_UP, signal.SIGINT)
    raise_open_files(_OPEN_FILES)
    code = Supervisor(folder).run()
    with contextlib.suppress(OSError):  # whoever looks next will advance the queue
        advance()
    if code == 0 and (folder / RunFiles.EXAM).exists():
        score_facts(folder)
    return code


def score_facts(folder: Path) -> None:
    """Have asked what a run that was taught facts has learned: a process that outlives this one."""
    with contextlib.suppress(OSError), (folder / RunFiles.SCORE_LOG).open("ab") as log:
        process.spawn([sys.executable, "-m", "glmstudio.knowledge.scoring", folder.name], log, uuid.uuid4().hex)


class Supervisor:
    """Owns the run in `folder`.

    It stands in that folder: where the folder is moved, it goes along and can still tell the end; where it is deleted,
    nothing is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        os.chdir(folder)
        record = RunRecord.read(_HERE)
        self._record = replace(record, attempt=replace(record.attempt, supervisor=process.identify(os.getpid())))
        self._agent: subprocess.Popen[bytes] | None = None
        self._head: Coordinator | None = None  # of several machines, this one is the first
        self._problem: StudioError | None = None
        self._ended_by: str | None = None
        signal.signal(signal.SIGTERM, self._pass_on)

    def run(self) -> int:
        """Train, and write down how it ended once nothing of it is left."""
        last_word(_HERE, RunFiles.RECORD, self._record.to_json())
        code, begin = 1, _log_size()
        tracker = self._tracker()
        try:
            self._head = Coordinator.of(self._folder, self._record.to_json())
            code = self._with_others(self._head) if self._head else self._alone()
        except StudioError as problem:
            self._problem = problem
        end_tracker(tracker)
        self._sweep()
        ending = self._ending(code, begin)
        if self._head:
            self._head.dismiss(str(ending["state"]))
        if Path(RunFiles.RECORD).exists():
            last_word(_HERE, RunFiles.STATUS, ending)
            notify(self._folder.name, ending)
        return code

    def _tracker(self) -> subprocess.Popen[bytes] | None:
        with contextlib.suppress(OSError), Path(RunFiles.LOG).open("ab") as log:
            return start_tracker(self._record, self._folder, log)
        return None

    def _alone(self) -> int:
        """Train on this machine."""
        if self._shall_leave():
            return 1
        placement = self._record.placement
        argv = launch_line("glmstudio.train", str(self._folder), processes=placement.processes)
        with Path(RunFiles.LOG).open("ab") as log:
            agent = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=training_environment(placement.device, placement.processes),
                start_new_session=True,
            )
        self._began(agent, argv)
        return agent.wait()

    def _with_others(self, head: Coordinator) -> int:
        """Train as the first of several machines. Raises StudioError for what torchrun cannot tell."""
        head.gather(self._shall_leave)
        if self._shall_leave():
            return 1
        with Path(RunFiles.LOG).open("ab") as log:
            agent = head.start(log)
        self._began(agent.child, agent.argv, head.port)
        return head.tend(agent)

    def _shall_leave(self) -> bool:
        return Path(RunFiles.STOP).exists() or self._ended_by is not None

    def _began(self, agent: subprocess.Popen[bytes], argv: list[str], port: int | None = None) -> None:
        """Write down that torchrun was started; `port`: where several machines meet."""
        self._agent = agent
        if self._ended_by:  # told in between
            agent.terminate()
        attempt = replace(self._record.attempt, argv=tuple(argv), agent=process.identify(agent.pid), port=port)
        last_word(_HERE, RunFiles.RECORD, replace(self._record, attempt=attempt).to_json())
        last_word(_HERE, RunFiles.STATUS, {"state": "running"})

    def _pass_on(self, number: int, _: Any) -> None:
        """Whoever ends this process means the run: torchrun is told, once, and ends its workers."""
        if self._ended_by is None:
            self._ended_by = signal.Signals(number).name
            if self._agent is not None:
                self._agent.terminate()

    def _sweep(self) -> None:
        """End what the training left, as a data loader whose parent was killed; most of it leaves by itself."""
        begun = time.monotonic()
        while (quiet := time.monotonic() - begun) < _SWEEP:
            mine = process.with_cookie(self._record.attempt.run_id)
            rest = [each for each in mine if each.pid != os.getpid()]
            if not rest:
                return
            for each in rest if quiet > _LEAVE else ():
                process.send(each, KILL)
            time.sleep(0.1)

    def _ending(self, code: int, begin: int) -> dict[str, Any]:
        progress = read_table(Path(RunFiles.PROGRESS))
        ended: dict[str, Any] = {"exit_code": code, "ended": time.time()}
        if progress.get("phase") == "done":  # whatever torchrun met while it left, the result is on disk
            return ended | {"state": "finished"}
        problem = self._problem.to_json() if self._problem else progress.get("problem")
        if progress.get("phase") == "stopped" or (Path(RunFiles.STOP).exists() and not problem):
            return ended | {"state": "stopped"}
        return ended | {"state": "failed", "problem": problem or self._reason(code, begin).to_json()}

    def _reason(self, code: int, begin: int) -> StudioError:
        """What the trainer could not tell itself."""
        if not _here(self._folder):
            return StudioError("runs.folder_gone", folder=str(self._folder))
        if self._ended_by:
            return StudioError("runs.ended_from_outside", signal=self._ended_by)
        found = reason(self._folder / RunFiles.LOG, begin)
        return by_signal(-code) if found.key == "runs.crashed" and code < 0 else found


def _here(folder: Path) -> bool:
    try:
        return folder.samefile(_HERE)
    except OSError:
        return False


def _log_size() -> int:
    with contextlib.suppress(OSError):
        return Path(RunFiles.LOG).stat().st_size
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
