"""The child process of a download, a verification or a repair: `python -m glmstudio.models.job_process JOB_FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.models.catalogue import Entry
from glmstudio.models.hub.download import DownloadProgress, Options, download
from glmstudio.models.hub.transfer import Patience
from glmstudio.models.jobs import Reporter, Stopped, carry_out
from glmstudio.models.repair import repair
from glmstudio.models.verify import verify


def main(place: Path) -> int:
    """Do the job and write down how it ended. Returns 0 where it is done."""
    report = Reporter(place)
    return carry_out(report, {"download": _download, "repair": _repair, "verify": _verify}[report.kind])


def options_of(model: Entry, options: Options) -> dict[str, Any]:
    """The options of a download or repair, for `job.json`."""
    return {"entry": asdict(model), "download": asdict(options)}


def _download(report: Reporter) -> list[StudioError]:
    model, options = _asked(report)
    download(model, report.folder, options, lambda progress: _tell(report, progress))
    return []


def _repair(report: Reporter) -> list[StudioError]:
    model, options = _asked(report)
    repair(model, report.folder, options, lambda progress: _tell(report, progress))
    return []


def _verify(report: Reporter) -> list[StudioError]:
    def tell(done: int, total: int) -> None:
        if report.stopping:
            raise Stopped
        report.tell(done=done, total=total, phase="checking")

    return verify(report.folder, full=True, tell=tell)


def _tell(report: Reporter, progress: DownloadProgress) -> None:
    if report.stopping:
        raise Stopped
    report.tell(
        done=progress.done,
        total=progress.total,
        phase=progress.phase,
        source=progress.source,
        connections=progress.connections,
        received=progress.received,
        files=[[name, done, size] for name, (done, size) in progress.files.items()],
        problem=progress.problem.to_json() if progress.problem else None,
    )


def _asked(report: Reporter) -> tuple[Entry, Options]:
    entry = report.options["entry"]
    told = report.options["download"]
    options = Options(**told | {"sources": tuple(told["sources"]), "patience": Patience(**told["patience"])})
    return Entry(**entry | {"can": tuple(entry["can"])}), options


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
