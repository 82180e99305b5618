"""The tool loop without a page: one question, or a conversation in the terminal, with a model server of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glmstudio import process
from glmstudio.chat.loop import CallEnded, CallStarted, Finished, TextPart, converse
from glmstudio.chat.server import adapter_folder
from glmstudio.chat.tools import TOOLS
from glmstudio.errors import StudioError
from glmstudio.files import read_json
from glmstudio.models import ready_model
from glmstudio.words import say

_PATIENCE = 600.0


def ask_once(model: str, adapter: str | None, prompt: str) -> dict[str, Any]:
    """The answer to one question: `content`, the `calls` that led to it with their results, and the `messages`.

    Raises StudioError.
    """
    calls: list[dict[str, Any]] = []
    text = ""
    with own_server(model, adapter) as port:
        for event in converse(port, [{"role": "user", "content": prompt}], list(TOOLS)):
            if isinstance(event, CallStarted):
                calls.append({"name": event.name, "arguments": event.arguments, "result": None})
                text = ""
            elif isinstance(event, CallEnded):
                calls[-1]["result"] = event.content
            elif isinstance(event, TextPart):
                text += event.text
            elif isinstance(event, Finished):
                messages = event.messages
    return {"content": text, "calls": calls, "messages": messages}


def converse_in_terminal(model: str, adapter: str | None, lang: str, show: Callable[..., None]) -> int:
    """Ask and answer until the input ends. `show` is `print`."""
    with own_server(model, adapter) as port:
        messages: list[dict[str, Any]] = []
        show(say(lang, "cli.chat_ready"))
        while True:
            try:
                question = input("> ").strip()
            except EOFError:
                return 0
            if not question:
                continue
            messages.append({"role": "user", "content": question})
            for event in converse(port, messages, list(TOOLS)):
                if isinstance(event, TextPart):
                    show(event.text, end="", flush=True)
                elif isinstance(event, CallStarted):
                    show(f"  {TOOLS[event.name].title(lang) if event.name in TOOLS else event.name}: {event.arguments}")
                elif isinstance(event, CallEnded):
                    show(f"  → {event.content}")
                elif isinstance(event, Finished):
                    show()
                    messages += event.messages


@contextmanager
def own_server(model: str, adapter: str | None) -> Iterator[int]:
    """A model server for this command alone; gives its port and ends it afterwards. Raises StudioError."""
    found, folder = ready_model(model), adapter_folder(adapter)
    port, run_id = process.free_port(), os.urandom(16).hex()
    with tempfile.TemporaryDirectory() as kept:
        told, log = Path(kept) / "told.json", Path(kept) / "log"
        command = [
            sys.executable,
            "-m",
            "glmstudio.serve",
            "--model",
            str(found.path),
            "--port",
            str(port),
            "--told",
            str(told),
        ]
        command += ["--adapter", str(folder)] if folder else []
        with log.open("wb") as output:
            child = process.spawn(command, output, run_id, detached=False)
        try:
            _wait(child, told, port, log)
            yield port
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _wait(child: subprocess.Popen[bytes], told: Path, port: int, log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        state = read_json(told, {}) or {}
        if state.get("problem"):
            raise StudioError.from_json(state["problem"])
        if state.get("state") == "ready" and not process.port_is_free(port):
            return
        if child.poll() is not None:
            sys.stderr.write(log.read_text(encoding="utf-8", errors="replace")[-2000:])
            raise StudioError("chat.server_died", log="stderr")
        if time.monotonic() > end:
            raise StudioError("chat.server_slow", seconds=round(_PATIENCE))
        time.sleep(0.1)
