"""What is installed only where somebody wants it: its installation as a child.

state/<name>/
    job.json       who installs it                      (start)
    status.json    how that ended                       (the child)
    log.txt        what the child printed
"""

from __future__ import annotations

import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import read_table, read_text, write_json
from glmstudio.paths import ROOT, paths
from glmstudio.system import process
from glmstudio.system.portable.locks import alone

_BIRTH_S = 10.0


@dataclass(frozen=True)
class Installation:
    """The last one; `state` is one of none, running, done, failed, interrupted. `line`: what was told last."""

    state: str
    line: str = ""
    problem: StudioError | None = None


@dataclass(frozen=True)
class OptionalPackage:
    """An optional part by its name in `state/` and in its file of requirements; `title` is what people call it."""

    name: str
    title: str

    @property
    def requirements(self) -> Path:
        """What pip is to install."""
        return ROOT / f"requirements-{self.name}.txt"

    @property
    def place(self) -> Path:
        """Where its installation is written down."""
        return paths().state / self.name

    def install(self) -> None:
        """Begin to install it in the background; where that is going on already, nothing more is begun."""
        self.place.mkdir(parents=True, exist_ok=True)
        with alone(self.place):
            if self.installation().state == "running":
                return
            about: dict[str, Any] = {"created": time.time()}
            (self.place / "status.json").unlink(missing_ok=True)
            write_json(self.place / "job.json", about)
            with (self.place / "log.txt").open("wb") as log:
                child = process.spawn([sys.executable, "-m", __name__, self.name], log, uuid.uuid4().hex)
            identity = process.identify(child.pid)
            write_json(self.place / "job.json", about | {"identity": identity.to_json() if identity else None})

    def installation(self) -> Installation:
        """How far the last installation is, or how it ended."""
        log = self.place / "log.txt"
        about = read_table(self.place / "job.json")
        if not about:
            return Installation("none")
        if about.get("identity") is None and time.time() - float(about.get("created", 0)) < _BIRTH_S:
            at_work = True  # it is being started right now
        else:
            at_work = process.alive(process.Identity.from_json(about.get("identity")))
        status = read_table(self.place / "status.json")  # after the look at its process: it may end in between
        if status:
            problem = StudioError.from_json(status["problem"]) if status.get("problem") else None
            return Installation(str(status["state"]), _last_line(log), problem)
        if at_work:
            return Installation("running", _last_line(log))
        gone = StudioError("engines.install_interrupted", name=self.title, log=str(log))
        return Installation("interrupted", problem=gone)

    def end(self, problem: StudioError | None) -> None:
        """Write down how it ended."""
        state = {"state": "failed" if problem else "done", "problem": problem.to_json() if problem else None}
        write_json(self.place / "status.json", state)


DEEPSPEED = OptionalPackage("deepspeed", "DeepSpeed")
DOCUMENTS = OptionalPackage("documents", "pypdfium2")


def main(extra: OptionalPackage) -> int:
    """The child: install, and write down how it ended."""
    from glmstudio.setup.install import add
    from glmstudio.setup.messages import Stop

    def failed(reason: str) -> StudioError:
        return StudioError("engines.install_failed", name=extra.title, reason=reason)

    try:
        add(extra.requirements)
    except Stop as stop:
        extra.end(failed(str(stop).replace("\n", " ")))
        return 1
    except Exception as error:
        extra.end(failed(f"{type(error).__name__}: {error}"))
        raise  # for the log
    extra.end(None)
    return 0


def _last_line(log: Path) -> str:
    try:
        lines = read_text(log, errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


if __name__ == "__main__":
    sys.exit(main(next(extra for extra in (DEEPSPEED, DOCUMENTS) if extra.name == sys.argv[1])))
