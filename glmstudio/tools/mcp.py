"""Tools of MCP servers that the user named in `workspace/tools/mcp.json`, by the protocol's official client.

A server is the user's own program: it runs outside the fence, starts when the tools are first listed, and ends with the
studio, however that ends. Listing never waits for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import read_json
from glmstudio.paths import CODE, paths
from glmstudio.tools.tool import Tool
from glmstudio.tools.tool_error import ToolError

_START, _CALL = 60.0, 120.0  # seconds
_MOST = 20
_LONGEST_NAME = 64


@dataclass
class Server:
    """One server: what it offers once it is ready, or why it cannot be used."""

    name: str
    about: dict[str, Any]
    tools: list[Tool] = field(default_factory=list)
    problem: StudioError | None = None
    ready: bool = False
    calls: asyncio.Queue[tuple[str, dict[str, Any], Future[str]]] = field(default_factory=asyncio.Queue)


class Servers:
    """All of them, served by one thread of its own."""

    def __init__(self) -> None:
        self._state: tuple[Path, int] | None = None
        self._servers: list[Server] = []
        self._tasks: list[Future[None]] = []
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def listed(self) -> list[Server]:
        """The servers of the file as it is now; new ones are being started, those that were taken out are ended."""
        file = paths().tools / "mcp.json"
        with self._lock:
            try:
                state = (file, file.stat().st_mtime_ns)
            except OSError:
                state = None
            if state != self._state:
                self._state = state
                self._end()
                self._servers = [] if state is None else _read(file)
                for server in self._servers:
                    if server.problem is None:
                        self._tasks.append(asyncio.run_coroutine_threadsafe(_serve(server), self._running()))
            return [*self._servers]

    def call(self, tool: Tool, arguments: dict[str, Any], cancel: threading.Event) -> str:
        """What the tool of a server answers. Raises ToolError."""
        name = tool.source.removeprefix("mcp:")
        server = next((each for each in self.listed() if each.name == name and each.ready), None)
        if server is None:
            raise ToolError(f"The server of {tool.name} does not run.")
        answer: Future[str] = Future()
        self._running().call_soon_threadsafe(server.calls.put_nowait, (tool.remote, arguments, answer))
        end = time.monotonic() + _CALL
        while not answer.done():
            if cancel.is_set() or time.monotonic() > end or not server.ready:
                answer.cancel()
                raise ToolError("The user stopped this call." if cancel.is_set() else f"{tool.name} did not answer.")
            with contextlib.suppress(Exception):
                answer.exception(timeout=0.05)
        return answer.result()

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop of the thread that talks to the servers; it lives as long as the studio."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True, name="mcp").start()
        return self._loop


async def _serve(server: Server) -> None:
    """Start the server, ask what it offers, and pass calls on until it is taken out."""
    import anyio
    from mcp import ClientSession, StdioServerParameters, stdio_client

    command = shutil.which(server.about["command"])
    if command is None:
        server.problem = StudioError("tools.mcp_command", name=server.name, command=server.about["command"])
        return
    leash = [str(CODE / "system" / "die_with_parent.py"), str(os.getpid()), command, *server.about["args"]]
    parameters = StdioServerParameters(command=sys.executable, args=leash, env=server.about["env"] or None)
    log = paths().state / "mcp.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("a", encoding="utf-8") as errors:
            async with stdio_client(parameters, errlog=errors) as (read, write), ClientSession(read, write) as session:
                with anyio.fail_after(_START):
                    await session.initialize()
                    listed = await session.list_tools()
                server.tools = [_tool(server.name, each) for each in listed.tools]
                server.ready = True
                async with anyio.create_task_group() as group:
                    while True:  # a call that takes long holds no other one up
                        group.start_soon(_pass_on, session, *await server.calls.get())
    except Exception:  # noqa: BLE001  whatever a foreign program does, the other tools go on
        server.problem = StudioError("tools.mcp_failed", name=server.name, log=str(log))
    finally:
        server.ready = False


async def _pass_on(session: Any, name: str, arguments: dict[str, Any], answer: Future[str]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        result = await session.call_tool(name, arguments, read_timeout_seconds=_CALL)
        text = "\n".join(str(part.text) for part in result.content if getattr(part, "type", "") == "text")
        if result.is_error:
            raise ToolError(text or f"{name} could not answer.")
        answer.set_result(text or "(no text)")
    except ToolError as error:
        answer.set_exception(error)
    except Exception as error:  # noqa: BLE001
        answer.set_exception(ToolError(f"{name} could not answer: {error}."))
        await session.send_ping()  # raises where the server itself is gone


def _tool(server: str, given: Any) -> Tool:
    schema = given.input_schema if isinstance(given.input_schema, dict) else {}
    return Tool(
        name=re.sub(r"\W+", "_", f"{server}_{given.name}")[:_LONGEST_NAME],
        description=" ".join(str(given.description or given.name).split())[:1000],
        parameters={"type": "object", "properties": {}} | schema,
        source=f"mcp:{server}",
        permission_default="ask",
        remote=str(given.name),
    )


def _read(file: Path) -> list[Server]:
    """The servers that the file names; a wrong entry is one with a problem."""
    told = read_json(file)
    named = told.get("mcpServers") if isinstance(told, dict) else None
    if not isinstance(named, dict):
        return [Server(file.name, {}, problem=StudioError("tools.mcp_file", file=file.name))]
    return [_server(str(name), about) for name, about in [*named.items()][:_MOST]]


def _server(name: str, about: Any) -> Server:
    about = about if isinstance(about, dict) else {}
    command, args, env = about.get("command"), about.get("args") or [], about.get("env") or {}
    texts = [command, *args, *env.values()] if isinstance(args, list) and isinstance(env, dict) else [None]
    if not all(isinstance(each, str) for each in texts):
        return Server(name, {}, problem=StudioError("tools.mcp_entry", name=name))
    return Server(name, {"command": command, "args": args, "env": env})


SERVERS = Servers()
