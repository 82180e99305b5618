"""What is installed only where somebody wants it: its installation as a job in state/<name>/."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from glmstudio import untrusted
from glmstudio.errors import StudioError
from glmstudio.files import read_text
from glmstudio.jobs.background_job import BackgroundJob, carry_out
from glmstudio.paths import ROOT, paths


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
    def job(self) -> BackgroundJob:
        """Its installation, in state/<name>/."""
        return BackgroundJob(paths().state / self.name)

    def install(self) -> None:
        """Begin to install it in the background; where that is going on already, nothing more is begun."""
        self.job.start(__name__, self.name)

    def installation(self) -> Installation:
        """How far the last installation is, or how it ended."""
        at_work, status = self.job.look()
        if status.get("state") in ("done", "failed"):
            return Installation(status["state"], _last_line(self.job.log), untrusted.problem(status.get("problem")))
        if at_work:
            return Installation("running", _last_line(self.job.log))
        if not self.job.asked:
            return Installation("none")
        gone = StudioError("engines.install_interrupted", name=self.title, log=str(self.job.log))
        return Installation("interrupted", problem=gone)


DEEPSPEED = OptionalPackage("deepspeed", "DeepSpeed")
DOCUMENTS = OptionalPackage("documents", "pypdfium2")


def main(extra: OptionalPackage) -> int:
    """The child: install, and write down how it ended."""
    from glmstudio.setup.install import add
    from glmstudio.setup.messages import Stop

    def problem(reason: str) -> StudioError:
        return StudioError("engines.install_failed", name=extra.title, reason=reason)

    def install() -> None:
        try:
            add(extra.requirements)
        except Stop as stop:
            raise problem(str(stop).replace("\n", " ")) from stop
        extra.job.tell({"state": "done"})

    return carry_out(install, lambda why: extra.job.tell({"state": "failed", "problem": why.to_json()}), problem)


def _last_line(log: Path) -> str:
    try:
        lines = read_text(log, errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


if __name__ == "__main__":
    sys.exit(main(next(extra for extra in (DEEPSPEED, DOCUMENTS) if extra.name == sys.argv[1])))
