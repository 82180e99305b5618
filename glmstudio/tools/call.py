"""One call of a tool in a process of its own: fenced, bounded, and ended with all that it left."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.jobs.presence import ports
from glmstudio.system import sandbox
from glmstudio.system.portable.open_files import thread_count
from glmstudio.system.portable.signals import end_group, name_of
from glmstudio.tools.mcp import SERVERS
from glmstudio.tools.permissions import folder
from glmstudio.tools.tool import Tool, check
from glmstudio.tools.tool_error import ToolError
from glmstudio.tools.workdir import is_full, place

LONGEST = 4000  # characters that the model is told
_SECONDS = 20.0
_PROCESSOR_SECONDS = 10
_MEMORY = 768 << 20  # bytes of addresses
_DISK, _FILES = 64 << 20, 1000  # bytes and files that its folder may hold
_THREADS = 64
_LARGEST = 1_000_000  # bytes that a process may answer
_CHILD = Path(__file__).parent / "child.py"
# The words that the user reads, and what the model hears.
_STOPPED = {
    "time": ("tools.stopped_time", "it took too long"),
    "memory": ("tools.stopped_memory", "it took too much memory"),
    "process": ("tools.stopped_process", "it may not start or end other processes"),
    "network": ("tools.stopped_network", "it may not use the network"),
    "ports": ("tools.stopped_ports", "it may not connect to the studio itself"),
    "file": ("tools.stopped_file", "it may not use this file"),
    "disk": ("tools.stopped_disk", "it wrote too much"),
    "threads": ("tools.stopped_threads", "it started too many threads"),
    "output": ("tools.stopped_output", "its answer was too long"),
    "forbidden": ("tools.stopped_forbidden", "it did something that is not allowed"),
    "crashed": ("tools.stopped_crashed", "its process broke"),
}
# What the kernel's signal was for, by its name; SIGSYS: a system call of another machine's kind.
_ENDS = {"SIGXCPU": "time", "SIGKILL": "time", "SIGSYS": "forbidden"}


@dataclass(frozen=True)
class Outcome:
    """What the model is told (`content`), and for people why the process was stopped, where it was."""

    content: str
    failed: bool
    seconds: float
    stopped: StudioError | None = None


def call(tool: Tool, arguments: dict[str, Any], *, cancel: threading.Event | None = None) -> Outcome:
    """Call the tool. Never raises for what a tool or a model does."""
    began = time.monotonic()
    try:
        check(tool, arguments)
        if tool.source.startswith("mcp:"):
            content = SERVERS.call(tool, arguments, cancel or threading.Event())
            return Outcome(_cut(content), False, time.monotonic() - began)
        told = _run(tool, arguments, cancel or threading.Event())
    except ToolError as error:
        return Outcome(f"Error: {error}", True, time.monotonic() - began)
    except StudioError as error:
        return Outcome(f"Error: {error.what()}", True, time.monotonic() - began, error)
    except OSError:  # no process, no temporary folder, no memory for them
        told = {"stopped": "crashed"}
    seconds = time.monotonic() - began
    if (kind := str(told.get("stopped"))) in _STOPPED:
        key, why = _STOPPED[kind]
        return Outcome(f"Error: {tool.name} was stopped: {why}.", True, seconds, StudioError(key, name=tool.name))
    if "content" not in told:
        return Outcome(_cut(f"Error: {told.get('failed')}"), True, seconds)
    return Outcome(_cut(str(told["content"])), False, seconds)


def direct(tool: Tool, arguments: dict[str, Any]) -> str:
    """The answer of a shipped tool without a process of its own; only for making data. Raises ToolError."""
    from importlib import import_module

    check(tool, arguments)
    if tool.source != "studio" or tool.file is None or tool.needs:
        raise ToolError(f"{tool.name} runs in a process of its own.")
    function = getattr(import_module(f"glmstudio.tools.shipped.{tool.file.stem}"), tool.name)
    try:
        return str(function(**arguments))
    except ToolError:
        raise
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise ToolError(f"{tool.name} could not answer: {error}.") from error


@cache
def unfenced() -> str:
    """What this machine lacks for a fence; empty where it has one."""
    return sandbox.missing()


class _Ports:
    """The fence's rules for ports, kept open until nobody needs them: a call may begin while others are made."""

    def __init__(self, closed: frozenset[int] | None) -> None:
        self.handle = None if closed is None else sandbox.all_ports_but(closed)

    def __del__(self) -> None:
        if self.handle is not None:
            os.close(self.handle)


@lru_cache(maxsize=2)
def _open_ports(closed: frozenset[int] | None) -> _Ports:
    """All but those of this home: neither its page nor its model server can be asked by a tool, whatever it knows."""
    return _Ports(closed)


def _run(tool: Tool, arguments: dict[str, Any], cancel: threading.Event) -> dict[str, Any]:
    fenced = not unfenced()
    if not fenced and not _harmless(tool):
        raise StudioError("tools.no_fence", name=tool.name)
    open_ports = _open_ports((ports() or None) if fenced and "network" in tool.needs else None)
    asked = {
        "file": str(tool.file),
        "name": tool.name,
        "arguments": arguments,
        "needs": tool.needs,
        "fenced": fenced,
        "seconds": _PROCESSOR_SECONDS,
        "memory": _MEMORY,
        "parent": os.getpid(),
        "ports": open_ports.handle,
    }
    try:
        written = json.dumps(asked).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"The arguments of {tool.name} must be plain values.") from error
    with place() as made:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-X", "utf8", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=made,
            env=_environment(tool, str(made)),
            start_new_session=True,
            pass_fds=() if open_ports.handle is None else (open_ports.handle,),
        )
        try:
            return _told(process, written, made, cancel)
        finally:
            if process.poll() is None:  # not yet collected, so the number is still its own
                end_group(process.pid)
            process.wait()


def _harmless(tool: Tool) -> bool:
    """Whether a tool may run where there is no fence: shipped, and for neither files, network nor code."""
    return tool.source == "studio" and not tool.needs and tool.permission_default == "always"


def _environment(tool: Tool, made: str) -> dict[str, str]:
    """Nothing of the studio's environment but what says how to write: tokens and folders stay out."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ", "SYSTEMROOT") if name in os.environ}
    chosen = folder() if "folder" in tool.needs else None
    # Libraries that would start a thread for each core need addresses for each, and so does malloc for each thread.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX")
    single = dict.fromkeys(names, "1")
    return kept | single | {"HOME": made, "TMPDIR": made, "PATH": ""} | ({"TOOL_FOLDER": str(chosen)} if chosen else {})


def _told(process: subprocess.Popen[bytes], asked: bytes, made: Path, cancel: threading.Event) -> dict[str, Any]:
    """What the process answers, or how it was stopped; nothing that it says is trusted."""
    answer = bytearray()
    reader = threading.Thread(target=_read, args=(process, asked, answer), daemon=True)
    reader.start()
    end = time.monotonic() + _SECONDS
    look, full, crowded = 0.0, False, False
    # The answer may be closed long before the process ends.
    while (reader.is_alive() or process.poll() is None) and not full and not crowded:
        # The kernel has no bound of its own: RLIMIT_NPROC counts all that a user runs, and does not hold root.
        crowded = thread_count(process.pid) > _THREADS
        if time.monotonic() >= end or cancel.is_set() or len(answer) > _LARGEST:
            break
        if time.monotonic() >= look:
            full, look = is_full(made, _DISK, _FILES, process.pid), time.monotonic() + 0.1
        reader.join(0.02)
        if not reader.is_alive():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
    if cancel.is_set():
        raise ToolError("The user stopped this call.")
    if len(answer) > _LARGEST:
        return {"stopped": "output"}
    if crowded:
        return {"stopped": "threads"}
    if full or is_full(made, _DISK, _FILES):
        return {"stopped": "disk"}
    code = process.poll()
    if reader.is_alive() or code is None:
        return {"stopped": "time"}
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict):
        return told
    return {"stopped": _ENDS.get(name_of(-code), "crashed")}


def _read(process: subprocess.Popen[bytes], asked: bytes, answer: bytearray) -> None:
    with contextlib.suppress(OSError, ValueError):
        if process.stdin is not None and process.stdout is not None:
            with process.stdin as given:
                given.write(asked)
            while len(answer) <= _LARGEST and (block := os.read(process.stdout.fileno(), 65536)):
                answer += block


def _cut(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()  # half a character cannot be sent on
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]} … [cut: {len(text)} characters in all]"
