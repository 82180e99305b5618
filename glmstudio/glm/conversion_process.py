"""The child process of a conversion: `python -m glmstudio.glm.conversion_process JOB_FOLDER`."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.glm.weights.convert import convert, drop_originals
from glmstudio.models import manifest, verification
from glmstudio.models.folder import weight_files
from glmstudio.models.hub.download import lock
from glmstudio.models.jobs import Reporter, Stopped, carry_out
from glmstudio.models.verify import verify


def main(place: Path) -> int:
    """Convert, note the new files' sums, give the stamp anew. Returns 0 where it is done."""
    return carry_out(Reporter(place), _convert)


def _convert(report: Reporter) -> list[StudioError]:
    def tell(done: int, total: int) -> None:
        if report.stopping:
            raise Stopped
        report.tell(done=done, total=total, phase="converting")

    with lock(report.folder):
        _prove(report.folder)
        old = weight_files(report.folder)
        new = convert(report.folder, dtype=str(report.options["dtype"]), tell=tell)
        _note(report.folder, new)
        if report.options["drop_originals"]:
            drop_originals(report.folder, old)
            manifest.drop(report.folder, [file.name for file in old] + ["pytorch_model.bin.index.json"])
    return []


def _prove(folder: Path) -> None:
    """Only what is right is converted: the new files get the stamp that the old ones had. Raises StudioError."""
    for problem in verify(folder, full=True) if verification.is_verified(folder) is None else ():
        raise problem


def _note(folder: Path, new: list[Path]) -> None:
    """The conversion read every new byte back, so their sums are known to be right."""
    for file in new:
        sha256 = _sum(file)
        manifest.add(folder, file.name, {"size": file.stat().st_size, "sha256": sha256})
        verification.note(folder, file.name, sha256)
    manifest.note(folder, converted=[file.name for file in new])
    verification.record(folder, verification.look(folder))


def _sum(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
