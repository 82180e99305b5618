"""Other users of the machine, for tests that root runs: real processes without rights, groups or a name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OWNER, OTHER = 4000, 4242
ROOT = Path(__file__).parents[1]


def become(uid: int) -> list[str]:
    """What stands before a command that this user runs."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]


def _python() -> str:
    """A Python of this version that every user may start; the packages are those of this one."""
    usual = Path(f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}")
    real = Path(sys.executable).resolve()
    is_open = all(each.stat().st_mode & 0o005 == 0o005 for each in (real, *real.parents))
    return sys.executable if is_open or not usual.exists() else str(usual)


PYTHON = _python()
PACKAGES = os.pathsep.join((str(ROOT), sysconfig.get_path("purelib")))


def _reason() -> str:
    if os.name == "nt" or os.geteuid() != 0:
        return "only root can become another user"
    if shutil.which("setpriv") is None or shutil.which("curl") is None:
        return "needs setpriv and curl"
    # Only looked up: importing it takes seconds, in every process that collects this file.
    code = "import subprocess, sys; from importlib.util import find_spec; open(find_spec('gradio').origin); "
    tried = [PYTHON, "-c", code + "subprocess.run([sys.executable, '-V'])"]
    reads = subprocess.run([*become(OTHER), *tried], env={**os.environ, "PYTHONPATH": PACKAGES}, capture_output=True)
    return "" if reads.returncode == 0 else "another user may not read this environment"


other_user = pytest.mark.skipif(bool(reason := _reason()), reason=reason)


@contextmanager
def place_of(uid: int) -> Iterator[Path]:
    """A folder of this user that everybody may look into; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="glmstudio-user-"))
    folder.chmod(0o755)
    os.chown(folder, uid, uid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def run_as(uid: int, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """What this user's command says."""
    return subprocess.run([*become(uid), *command], capture_output=True, text=True, timeout=120, **more)


def ask_as(uid: int, url: str, *options: str) -> tuple[int, str]:
    """Status and body of a request of this user."""
    done = run_as(uid, "curl", "-s", "--noproxy", "*", "-m", "20", "-w", "\n%{http_code}", *options, url)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def python_as(uid: int, code: str, *arguments: str, **variables: str) -> Any:
    """What this user's Python prints, as JSON."""
    environment = {**os.environ, "PYTHONPATH": PACKAGES, "HOME": "/nonexistent", **variables}
    done = run_as(uid, PYTHON, "-c", code, *arguments, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
