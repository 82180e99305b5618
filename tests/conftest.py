"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from glmstudio.process import Identity, environment, identify, send

# No test asks a hub outside: their addresses lead to a port of this machine where nobody listens, for children, too.
for _name in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT", "GLMSTUDIO_MIRROR"):
    os.environ[_name] = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty studio home of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("GLMSTUDIO_HOME", str(folder))
    return folder


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes; whatever they started with their mark is ended after the test, and nothing else."""
    mark = uuid.uuid4().hex
    children: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "GLMSTUDIO_TEST_MARK": mark, **variables},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
    for process in psutil.process_iter():
        if environment(process.pid).get("GLMSTUDIO_TEST_MARK") == mark:
            left = identify(process.pid)
            if left:
                send(left, signal.SIGKILL)


# Starts the rest of its command line in a session of its own, says its number, and leaves it alone.
_LEAVE = """
import os, subprocess, sys
left = subprocess.Popen([sys.executable, *sys.argv[1:]], start_new_session=True)
print(left.pid, flush=True)
"""


@pytest.fixture
def orphan(spawn: Callable[..., subprocess.Popen[str]]) -> Callable[..., Identity]:
    """Starts a process whose parent is gone; one that prints a line when it is ready is waited for with `ready=True`."""

    def start(*arguments: str, ready: bool = False, **variables: str) -> Identity:
        parent = spawn("-S", "-c", _LEAVE, *arguments, **variables)
        assert parent.stdout is not None
        lines = [parent.stdout.readline() for _ in range(2 if ready else 1)]
        parent.wait()
        left = identify(int(next(line for line in lines if line.strip())))
        assert left is not None
        return left

    return start
