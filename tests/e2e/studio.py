"""A real studio process for tests."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.users import PACKAGES, PYTHON, become

ROOT = Path(__file__).parents[2]
_MAIN = "import sys; from glmstudio.ui.shell.app import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Studio:
    """A studio that answers."""

    process: subprocess.Popen[str]
    port: int
    home: Path
    key: str
    cookie: str

    @property
    def place(self) -> str:
        """Where its page is, for whoever has the cookie."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def url(self) -> str:
        """The address that it prints, which opens the page in any browser of the owner."""
        return f"{self.place}?token={self.key}"


def command(*arguments: str) -> list[str]:
    """The studio as a command that opens no browser."""
    return [sys.executable, "-c", _MAIN, "--no-browser", *arguments]


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a studio with its own home."""
    path = os.pathsep.join(filter(None, (PACKAGES, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "GLMSTUDIO_HOME": str(home), "PYTHONPATH": path, **extra}


@contextmanager
def studio(home: Path, *arguments: str, uid: int | None = None, **extra: str) -> Iterator[Studio]:
    """Start a studio, as another user where `uid` is given, wait until it answers, and end it."""
    process = subprocess.Popen(
        [*become(uid), PYTHON, *command(*arguments)[1:]] if uid else command(*arguments),
        cwd=ROOT,
        env=environment(home, **extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Studio(process, *_wait(process, home))
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _wait(process: subprocess.Popen[str], home: Path, seconds: float = 90) -> tuple[int, Path, str, str]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the studio ended: {process.stdout.read()}")
        try:
            record = json.loads((home / "state" / "studio.json").read_text())
            given = login(record["port"], record["token"])
            if json.loads(get(record["port"], "/health", given)[1])["pid"] == process.pid:
                return record["port"], home, record["token"], given
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise AssertionError("the studio never answered")


def login(port: int, key: str) -> str:
    """The cookie that a browser is given for the key. Raises ValueError where it is not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", f"/?token={key}")
    reply = connection.getresponse()
    connection.close()
    if reply.status != 303 or reply.getheader("location") != "/":
        raise ValueError(reply.status)
    return reply.getheader("set-cookie", "").split(";")[0]


def get(port: int, path: str, cookie: str = "") -> tuple[int, bytes]:
    """Status and body of what is there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
    reply = connection.getresponse()
    found = reply.status, reply.read()
    connection.close()
    return found
