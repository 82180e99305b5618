"""The process of one call: `python -I child.py`, told in JSON on its standard input what to call; answers on it, too.

It puts the fence up before the tool's file is read. Standard library only, and nothing of the studio before that.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_SYSTEM_ROOM = _HERE.parent / "system"
_SYSTEM = (
    "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/localtime", "/dev/null",
    "/dev/urandom", "/etc/ld.so.cache",
)  # fmt: skip
_NETWORK = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pki", "/usr/share/ca-certificates",
    "/run/systemd/resolve", "/etc/host.conf", "/etc/gai.conf",
)  # fmt: skip
_KINDS = (
    ("network", ("socket.",)),
    ("process", ("os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "subprocess.", "pty.")),
    ("file", ("open", "os.", "shutil.", "glob.", "pathlib.", "tempfile.")),
)
# What Python notes while it makes and reads tracebacks.
_INNER = ("compile", "object.", "code.", "sys.")


def main() -> None:
    """Call the tool, say what came of it."""
    with os.fdopen(0, "rb") as given:
        asked: dict[str, Any] = json.load(given)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)  # what a tool prints is not its answer
    fence, rules = _module("sandbox", _SYSTEM_ROOM / "sandbox.py"), _module("seccomp", _SYSTEM_ROOM / "seccomp.py")
    # Found now, because behind the fence the folder in which it lies cannot be listed.
    sys.path.append(str(_ROOT))
    import glmstudio.tools.tool_error  # noqa: F401

    sys.path.pop()
    fence.limit(asked["seconds"], asked["memory"], asked["parent"])
    if asked["fenced"]:
        _close(fence, rules.program(network="network" in asked["needs"]), asked)
    last: list[str] = [""]
    sys.addaudithook(lambda event, _: None if event.startswith(_INNER) else last.__setitem__(0, event))
    said = _answered(asked, last)
    out.write(json.dumps(said))
    out.flush()
    os._exit(0)  # a thread that the tool left behind must not hold the answer


def _close(fence: Any, program: bytes, asked: dict[str, Any]) -> None:
    network = "network" in asked["needs"]
    read = [Path(each) for each in (*_SYSTEM, *(_NETWORK if network else ()))]
    read += [Path(sys.base_prefix), Path(sys.prefix), _ROOT / "glmstudio", Path(asked["file"])]
    if "folder" in asked["needs"] and os.environ.get("TOOL_FOLDER"):
        read.append(Path(os.environ["TOOL_FOLDER"]))
    fence.close(read, Path.cwd(), program, network=network, ports=asked["ports"])


def _answered(asked: dict[str, Any], last: list[str]) -> dict[str, Any]:
    try:
        tool = getattr(_module("tool", Path(asked["file"])), asked["name"])
        value = tool(**asked["arguments"])
        return {"content": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}
    except MemoryError:
        return {"failed": "", "stopped": "memory"}
    except SystemExit:
        return {"failed": "The tool ended its process."}
    except BaseException as error:  # noqa: BLE001  whatever a tool does is an answer
        event = last[0]
        own = type(error).__module__.startswith("glmstudio.")
        # A shipped tool that was granted something says itself what went wrong with it.
        refused = None if own and asked["needs"] else _refusal(error, event, asked)
        if refused:
            return {"failed": str(error), "stopped": _kind(event, refused, asked)}
        return {"failed": str(error) if own else f"{asked['name']} could not answer: {error}."}


def _refusal(error: BaseException, event: str, asked: dict[str, Any]) -> OSError | None:
    """What the fence said, where it is behind an error; libraries wrap it in errors of their own."""
    link: BaseException | None = error
    last: OSError | None = None
    for _ in range(10):
        if link is None:
            break
        if isinstance(link, PermissionError):
            return link
        last = link if isinstance(link, OSError) else last
        link = link.__cause__ or link.__context__
    # A name that cannot be looked up is told as a name that there is not.
    return last if event.startswith("socket.") and "network" not in asked["needs"] else None


def _kind(event: str, refused: OSError, asked: dict[str, Any]) -> str:
    """What was refused, by the last thing that Python itself noted, or by what the error names."""
    if event == "socket.connect" and refused.errno == errno.EACCES and "network" in asked["needs"]:
        return "ports"
    noted = next((kind for kind, marks in _KINDS if event.startswith(marks)), "forbidden")
    return "file" if noted == "forbidden" and refused.filename is not None else noted


def _module(name: str, file: Path) -> Any:
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
