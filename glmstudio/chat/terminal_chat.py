"""The tool loop without a page: one question, or a conversation in the terminal, with a model server of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glmstudio.access.api_key import new_key
from glmstudio.chat.adapters import adapter_folder, adapter_name
from glmstudio.chat.available_tools import asked_with_tools, offered, toolless
from glmstudio.chat.loop import CallEnded, CallStarted, ChatRequest, Decision, Finished, TextPart, converse
from glmstudio.chat.model_server import RunningServer, loaded_at, serve_command, spawn
from glmstudio.errors import StudioError
from glmstudio.files import read_json
from glmstudio.models import ready_model
from glmstudio.system import process
from glmstudio.system.die_with_parent import on_leash
from glmstudio.tools.permissions import permission
from glmstudio.tools.toolbox import Tool, toolbox
from glmstudio.words import say

_PATIENCE = 600.0


def ask_once(model: str, adapter: str | None, prompt: str) -> dict[str, Any]:
    """The answer to one question: `content`, the `calls` that led to it with their results, and the `messages`.

    Only tools that may always run are offered: nobody is there to be asked. Raises StudioError.
    """
    calls: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    text = ""
    tools = offered(model, asking=False) if asked_with_tools(model, adapter or "") else []
    with own_server(model, [adapter] if adapter else []) as served:
        question = [{"role": "user", "content": prompt}]
        asked = ChatRequest(served.port, served.models[-1], question, tools, key=served.key)
        for event in converse(asked):
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
    without = toolless(model, adapter or "")
    tools = offered(model) if asked_with_tools(model, adapter or "") else []

    def decide(_call: CallStarted, tool: Tool) -> Decision:
        """May it run? Enter means no: what nobody has read must not run."""
        if permission(tool) == "always":
            return Decision("run")
        answer = input(f"  {say(lang, 'chat.terminal.allow', tool=tool.title(lang))} ").strip().lower()
        return Decision("run" if answer in ("y", "yes", "是", "好") else "refuse")

    with own_server(model, [adapter] if adapter else []) as served:
        messages: list[dict[str, Any]] = []
        show(say(lang, "chat.terminal.ready"))
        if without:
            show(say(lang, "ui.chat.form_without.what", name=without.name))
        while True:
            try:
                question = input("> ").strip()
            except EOFError:
                return 0
            if not question:
                continue
            messages.append({"role": "user", "content": question})
            asked = ChatRequest(served.port, served.models[-1], messages, tools, key=served.key)
            for event in converse(asked, decide=decide):
                if isinstance(event, TextPart):
                    show(event.text, end="", flush=True)
                elif isinstance(event, CallStarted):
                    tool = toolbox().tools.get(event.name)
                    show(f"  {tool.title(lang) if tool else event.name}: {event.arguments}")
                elif isinstance(event, CallEnded):
                    show(f"  → {event.content}")
                elif isinstance(event, Finished):
                    show()
                    messages += event.messages


@contextmanager
def own_server(model: str, adapters: Sequence[str]) -> Iterator[RunningServer]:
    """A model server for this command alone, which is ended afterwards. Raises StudioError."""
    found = ready_model(model)
    for adapter in adapters:
        adapter_folder(adapter)
    port, run_id, key = process.free_port(), os.urandom(16).hex(), new_key()
    with tempfile.TemporaryDirectory() as kept, _terminated():
        told, log = Path(kept) / "told.json", Path(kept) / "log"
        # Whatever ends this thread, kill -9 too, ends the server that nobody else knows.
        command = on_leash(serve_command(str(found.path), adapters, port=port, told=told))
        with log.open("wb") as output:
            child = spawn(command, output, run_id, key, detached=False)
        try:
            _wait(child, told, port, log)
            yield RunningServer(port, [loaded_at(port, key)[0].id, *map(adapter_name, adapters)], key)
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM to this command ends its server, too, as Ctrl-C does."""
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    except ValueError:  # a thread of the studio, which ends its servers itself
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
