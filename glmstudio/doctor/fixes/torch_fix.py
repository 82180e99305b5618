"""The PyTorch that fits, installed by the launcher itself, so that there is one rule and one way."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable

from glmstudio.doctor.engine import audit
from glmstudio.errors import StudioError
from glmstudio.files import read_json
from glmstudio.paths import ROOT, paths
from glmstudio.rundir.run import list_runs
from glmstudio.setup import torch_build
from glmstudio.setup.messages import Stop
from glmstudio.system import process

LAUNCHER = ROOT / "launcher.py"
COMMAND = "python launcher.py --torch auto"


def preview() -> tuple[str, str]:
    """The build that would be installed, and the same as a mark. Raises StudioError where there is none."""
    try:
        build, _ = torch_build.choose("auto")
    except Stop as stop:
        raise StudioError("doctor.torch_fix.no_build", reason=str(stop)) from stop
    return f"torch {_installed()} → torch {build}", build


def apply(mark: str, tell: Callable[[str], None]) -> None:
    """Install it, telling each line of progress. Raises StudioError; what was there stays usable or is named."""
    if preview()[1] != mark:
        raise StudioError("doctor.torch_fix.changed")
    if _in_use():
        raise StudioError("doctor.torch_fix.busy")
    before = _installed()
    last: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        [sys.executable, str(LAUNCHER), "--torch", "auto", "doctor", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # closing the terminal must not leave half a package behind
    ) as child:
        text = ""
        for line in child.stdout or ():
            text = text + line if text or line.startswith("{") else ""
            if not text and line.strip():
                last.append(line.strip())
                tell(line.strip()[:200])
    if not _is_report(text):
        raise StudioError("doctor.torch_fix.failed", reason=" ".join(last)[-600:], command=COMMAND)
    audit.note("torch.install", before=before, build=mark)


def _is_report(text: str) -> bool:
    try:
        return "findings" in json.loads(text)
    except ValueError:
        return False


def _in_use() -> bool:
    """Whether a training or the model server works with the PyTorch that would be replaced."""
    server = read_json(paths().state / "server.json", {})
    identity = process.Identity.from_json(server.get("identity") if isinstance(server, dict) else None)
    return process.alive(identity) or any(run.read_state().live for run in list_runs())


def _installed() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "–"
