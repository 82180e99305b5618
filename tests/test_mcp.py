"""Tools of a real MCP server, a small program that speaks the protocol over its standard input and output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from glmstudio.tools.call import call
from glmstudio.tools.mcp import SERVERS
from glmstudio.tools.permissions import permission
from glmstudio.tools.toolbox import Toolbox, toolbox
from tests.waiting import until

SERVER = '''
import os, sys, time
from mcp.server.mcpserver import MCPServer

server = MCPServer("small")

@server.tool()
def add(a: int, b: int) -> str:
    """Adds two numbers."""
    return str(a + b)

@server.tool()
def wrong() -> str:
    """Cannot."""
    raise ValueError("no")

@server.tool()
def slow() -> str:
    """Sleeps."""
    time.sleep(60)
    return "late"

@server.tool()
def end() -> str:
    """Ends the server."""
    os._exit(1)

server.run("stdio")
'''


@pytest.fixture
def box(home: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    folder = home / "tools"
    folder.mkdir(parents=True)
    (home / "server.py").write_text(SERVER)

    def write(servers: Any) -> None:
        (folder / "mcp.json").write_text(json.dumps(servers))

    yield write
    (folder / "mcp.json").unlink(missing_ok=True)
    SERVERS.listed()
    until(lambda: not running(home))


def running(home: Path) -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if str(home / "server.py") in line(each)]


def line(each: psutil.Process) -> list[str]:
    try:
        return each.cmdline()
    except psutil.Error:  # it has just ended
        return []


def entry(home: Path) -> dict[str, Any]:
    return {"mcpServers": {"small": {"command": sys.executable, "args": [str(home / "server.py")]}}}


def broken(found: Toolbox) -> list[tuple[str, str]]:
    return [(each.file, each.problem.what()) for each in found.broken]


def test_a_server_offers_its_tools_and_answers(home: Path, box: Callable[[Any], None]) -> None:
    box(entry(home))
    assert "small_add" not in toolbox().tools, "listing never waits for a server"
    tools = until(lambda: toolbox().tools if "small_add" in toolbox().tools else None)
    tool = tools["small_add"]
    assert (tool.description, tool.source, permission(tool)) == ("Adds two numbers.", "mcp:small", "ask")
    assert call(tool, {"a": 2, "b": 3}).content == "5"
    assert call(tool, {"a": 2}).content == "Error: small_add needs the argument b."
    failed = call(tools["small_wrong"], {})
    assert failed.failed
    assert failed.content.startswith("Error: ")
    assert call(tool, {"a": 1, "b": 1}).content == "2"
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    assert call(tools["small_slow"], {}, cancel=cancel).content == "Error: The user stopped this call."
    outcome = call(tools["small_end"], {})
    assert outcome.failed
    until(lambda: "small_add" not in toolbox().tools)
    assert broken(toolbox()) == [("small", "The server small ended or did not answer.")]


def test_a_server_that_is_taken_out_ends(home: Path, box: Callable[[Any], None]) -> None:
    box(entry(home))
    until(lambda: "small_add" in toolbox().tools)
    assert running(home)
    box({"mcpServers": {}})
    assert "small_add" not in toolbox().tools
    until(lambda: not running(home))


def test_what_cannot_be_started_is_told(home: Path, box: Callable[[Any], None]) -> None:
    box([])
    assert broken(toolbox()) == [("mcp.json", "mcp.json in the tools folder names no servers.")]
    box({"mcpServers": {"a": {"command": "no-such-program"}, "b": {}, "c": {"command": "x", "args": "y"}, "d": 5}})
    assert until(lambda: len(toolbox().broken) == 4)
    assert broken(toolbox()) == [
        ("a", "The server a cannot be started: there is no program no-such-program."),
        ("b", "The entry b in mcp.json is incomplete."),
        ("c", "The entry c in mcp.json is incomplete."),
        ("d", "The entry d in mcp.json is incomplete."),
    ]
    assert "calculator" in toolbox().tools


def test_a_server_ends_with_the_studio(home: Path, box: Callable[[Any], None]) -> None:
    code = "import time\nfrom glmstudio.tools.toolbox import toolbox\nwhile True: toolbox(); time.sleep(0.1)"
    box(entry(home))
    studio = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "GLMSTUDIO_HOME": str(home)})
    (server,) = until(lambda: [each for each in running(home) if each.ppid() == studio.pid])
    studio.send_signal(signal.SIGKILL)
    studio.wait()
    _, alive = psutil.wait_procs([server], timeout=10)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
