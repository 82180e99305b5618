"""A model server of a test's own: a child process that is ended afterwards, asked as any program would."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from glmstudio.access.api_key import VARIABLE, bearer
from glmstudio.chat.model_server import CONTROL
from glmstudio.system import process

TOKEN = "the-studio-s-own"
KEY = bearer(TOKEN)


@dataclass(frozen=True)
class Server:
    """Where it listens, its process, and the file that it prints to."""

    port: int
    child: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Its address on this machine."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def completions(self) -> str:
        """Where chats are answered."""
        return f"{self.url}/v1/chat/completions"

    @property
    def process(self) -> psutil.Process:
        """The process, to be measured."""
        return psutil.Process(self.child.pid)

    def post(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        """The reply to a request for an answer."""
        return httpx.post(self.completions, json=body, headers=KEY | headers, trust_env=False, timeout=60)

    def state(self) -> dict[str, Any]:
        """How busy it is, as the studio may ask."""
        return get(f"{self.url}/studio/state", **{"x-studio-token": TOKEN}).json()

    def until(self, **wanted: Any) -> dict[str, Any]:
        """The state once it holds these values."""
        for _ in range(400):
            state = self.state()
            if all(state[name] == value for name, value in wanted.items()):
                return state
            time.sleep(0.05)
        raise AssertionError(f"{state} is not {wanted}")


@contextmanager
def served(folder: Path, *options: str, **variables: str) -> Iterator[Server]:
    """A server of the demo model with these options."""
    port, log = process.free_port(), folder / "server.log"
    model = [] if "--model" in options else ["--model", "demo"]
    command = [sys.executable, "-m", "glmstudio.serve", *model, "--port", str(port), *options]
    environment = {**os.environ, "GLMSTUDIO_HOME": str(folder / "home"), CONTROL: TOKEN, VARIABLE: TOKEN}
    environment |= variables
    with log.open("wb") as output:
        child = subprocess.Popen(command, cwd=Path(__file__).parents[1], env=environment, stdout=output, stderr=output)
    try:
        until_ready(child, port, log)
        yield Server(port, child, log)
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def until_ready(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait for its first sign of life."""
    for _ in range(600):
        assert child.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        try:
            get(f"http://127.0.0.1:{port}/health")
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("The server did not answer.")


def get(url: str, **headers: str) -> httpx.Response:
    """The reply to a simple request."""
    return httpx.get(url, headers=KEY | headers, trust_env=False, timeout=30)


def body(text: str, model: str = "demo", **more: Any) -> dict[str, Any]:
    """A request for an answer without chance."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, **more}
