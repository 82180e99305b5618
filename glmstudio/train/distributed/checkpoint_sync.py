"""What machines without a common disk tell each other: where to go on from, and the random numbers of each process.

The first machine has the run's folder. The others have a folder of their own, into which it sends what they lack.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import torch.distributed as dist

from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.rundir.checkpoints import SEAL, latest
from glmstudio.rundir.rewind import take_back
from glmstudio.train.distributed.context import DistributedContext

_PIECE = 16 << 20  # bytes that are sent at once


def start_of(context: DistributedContext, folder: Path, about: Mapping[str, Any]) -> tuple[Path | None, Path | None]:
    """The checkpoint to go on from and the numbers to start with, as folders of this machine; None where there is none.

    A run of one machine goes on where `run.json` says. One of several is started anew with every machine that comes or
    goes: from its newest whole checkpoint, and what was written after that is taken back. All processes call it
    together.
    """
    warm = Path(about["warm_start"]) if about.get("warm_start") else None
    if not about.get("cluster"):
        return (folder / "checkpoints" / about["resume"] if about.get("resume") else None), warm
    name = None
    if context.first:
        newest = latest(folder / "checkpoints")
        name = newest.path.name if newest else None
        take_back(folder, newest.step if newest else 0)
    name = context.gather(name)[0]
    resume = folder / "checkpoints" / Path(name).name if name else None
    for each in (resume, warm):
        if each:
            _send(context, each, on_first=_on_first(about))
    return resume, warm


def collect(context: DistributedContext, path: Path, about: Mapping[str, Any]) -> None:
    """Bring what processes on other machines wrote into their checkpoint `path` into that of the first one."""
    if not about.get("cluster"):
        return
    own = [] if _on_first(about) else [path / f"rng_state_{context.rank}.pth"]
    found = {each.name: base64.b64encode(each.read_bytes()).decode("ascii") for each in own}
    for rank, told in enumerate(context.gather(found)):
        if context.first and told:
            (path / f"rng_state_{rank}.pth").write_bytes(base64.b64decode(told[f"rng_state_{rank}.pth"]))
    if not _on_first(about) and not context.local_rank:
        shutil.rmtree(path, ignore_errors=True)  # sealed by nobody; the whole one comes when it is needed


def _send(context: DistributedContext, folder: Path, *, on_first: bool) -> None:
    """Give every other machine the files of the first one's `folder`."""
    listed = _files(folder) if context.first else {}
    listed = context.gather(listed)[0]
    writes = not on_first and not context.local_rank
    if not context.any(writes and _files(folder) != listed):
        return
    if writes:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for name, size in json.loads(listed["files"]).items():
        file = _inside(folder, name)
        if writes:
            file.parent.mkdir(parents=True, exist_ok=True)
        _send_file(context, file, size, writes=writes)
    context.barrier()


def _send_file(context: DistributedContext, file: Path, size: int, *, writes: bool) -> None:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(file.open("rb")) if context.first else None
        target = stack.enter_context(file.open("wb")) if writes else None
        for at in range(0, size, _PIECE):
            length = min(_PIECE, size - at)
            read = source.read(length) if source else b""
            piece = (
                torch.frombuffer(bytearray(read), dtype=torch.uint8) if read else torch.empty(length, dtype=torch.uint8)
            )
            dist.broadcast(piece, 0)
            if target:
                target.write(piece.numpy().tobytes())


def _inside(folder: Path, name: str) -> Path:
    """The file of that name. Raises StudioError where it would lie elsewhere."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise StudioError("runs.stranger", reason=name)
    return folder / name


def _files(folder: Path) -> dict[str, str]:
    """What tells a folder's content: its files with their sizes, and the seal of a checkpoint."""
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    seal = json.dumps(read_table(folder / SEAL).get("crc32"), sort_keys=True)
    return {"files": json.dumps(dict(sorted(sizes.items()))), "seal": seal}


def _on_first(about: Mapping[str, Any]) -> bool:
    return int(about.get("machine", 1)) == 1
