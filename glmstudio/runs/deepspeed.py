"""DeepSpeed, which is not installed with the rest: whether it is there and loads, and its installation as a child.

state/deepspeed/
    loads.json     the versions with which it was seen to load
    job.json       who installs it                      (start)
    status.json    how that ended                       (the child)
    log.txt        what the child printed
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio import process
from glmstudio.errors import StudioError
from glmstudio.files import alone, read_table, read_text, write_json
from glmstudio.paths import ROOT, paths
from glmstudio.runs.child import ask

REQUIREMENTS = ROOT / "requirements-deepspeed.txt"
_BIRTH_S = 10.0


@dataclass(frozen=True)
class Installation:
    """The last one; `state` is one of none, running, done, failed, interrupted. `line`: what was told last."""

    state: str
    line: str = ""
    problem: StudioError | None = None


def installed() -> str | None:
    """Its version; None where it is not installed."""
    try:
        return importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError:
        return None


def check() -> None:
    """Raise StudioError, with the remedy, unless DeepSpeed is installed and loads beside this PyTorch."""
    version = installed()
    if version is None:
        raise StudioError("engines.no_deepspeed")
    seen = {"deepspeed": version, "torch": importlib.metadata.version("torch"), "python": sys.version}
    note = _place() / "loads.json"
    if read_table(note) != seen:
        ask("glmstudio.train.zero", broke="engines.deepspeed_broken")
        write_json(note, seen)


def search_path() -> str:
    """The PATH with this environment's own programs: DeepSpeed calls ninja by its name."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join([own, os.environ.get("PATH", os.defpath)])


def install() -> None:
    """Begin to install it in the background; where that is going on already, nothing more is begun."""
    place = _place()
    place.mkdir(parents=True, exist_ok=True)
    with alone(place):
        if installation().state == "running":
            return
        about: dict[str, Any] = {"created": time.time()}
        (place / "status.json").unlink(missing_ok=True)
        write_json(place / "job.json", about)
        with (place / "log.txt").open("wb") as log:
            child = process.spawn([sys.executable, "-m", "glmstudio.runs.deepspeed"], log, uuid.uuid4().hex)
        identity = process.identify(child.pid)
        write_json(place / "job.json", about | {"identity": identity.to_json() if identity else None})


def installation() -> Installation:
    """How far the last installation is, or how it ended."""
    place = _place()
    about = read_table(place / "job.json")
    if not about:
        return Installation("none")
    if about.get("identity") is None and time.time() - float(about.get("created", 0)) < _BIRTH_S:
        at_work = True  # it is being started right now
    else:
        at_work = process.alive(process.Identity.from_json(about.get("identity")))
    status = read_table(place / "status.json")  # after the look at its process: it may end in between
    if status:
        problem = StudioError.from_json(status["problem"]) if status.get("problem") else None
        return Installation(str(status["state"]), _last_line(place / "log.txt"), problem)
    if at_work:
        return Installation("running", _last_line(place / "log.txt"))
    return Installation("interrupted", problem=StudioError("engines.install_interrupted", log=str(place / "log.txt")))


def main() -> int:
    """The child: install, and write down how it ended."""
    from glmstudio.setup.install import add
    from glmstudio.setup.words import Stop

    try:
        add(REQUIREMENTS)
    except Stop as stop:
        _end(StudioError("engines.install_failed", reason=str(stop).replace("\n", " ")))
        return 1
    except Exception as error:
        _end(StudioError("engines.install_failed", reason=f"{type(error).__name__}: {error}"))
        raise  # for the log
    _end(None)
    return 0


def _end(problem: StudioError | None) -> None:
    state = {"state": "failed" if problem else "done", "problem": problem.to_json() if problem else None}
    write_json(_place() / "status.json", state)


def _place() -> Path:
    return paths().state / "deepspeed"


def _last_line(log: Path) -> str:
    try:
        lines = read_text(log, errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


if __name__ == "__main__":
    sys.exit(main())
