"""A real studio process for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MAIN = "import sys; from glmstudio.ui.app import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Studio:
    """A studio that answers."""

    process: subprocess.Popen[str]
    port: int
    home: Path

    @property
    def url(self) -> str:
        """Where its page is."""
        return f"http://127.0.0.1:{self.port}/"


def command(*arguments: str) -> list[str]:
    """The studio as a command that opens no browser."""
    return [sys.executable, "-c", _MAIN, "--no-browser", *arguments]


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a studio with its own home."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "GLMSTUDIO_HOME": str(home), "PYTHONPATH": path, **extra}


@contextmanager
def studio(home: Path, *arguments: str, **extra: str) -> Iterator[Studio]:
    """Start a studio, wait until it answers, and end it."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=environment(home, **extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Studio(process, _wait(process, home), home)
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _wait(process: subprocess.Popen[str], home: Path, seconds: float = 90) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the studio ended: {process.stdout.read()}")
        try:
            port = json.loads((home / "state" / "studio.json").read_text())["port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
                if json.load(reply)["pid"] == process.pid:
                    return port
        except (OSError, ValueError):
            time.sleep(0.05)
    raise AssertionError("the studio never answered")
