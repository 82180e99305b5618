"""Where the environment is, and whether it still fits: a few file look-ups, no process, no driver."""

from __future__ import annotations

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOG = VENV / "setup.log"
STAMP = VENV / "setup.json"
DRIVER = Path("/proc/driver/nvidia/version")


def is_ready(build: str | None, testing: bool) -> bool:
    """Whether a set-up with this PyTorch build (None: the one chosen before) is complete and nothing changed since."""
    stamp = read_stamp()
    if build is not None and build != (stamp.get("build") or "auto"):
        return False
    return stamp.get("tests" if testing else "studio") == fingerprint(testing)


def read_stamp() -> dict[str, str]:
    """What the last complete set-up noted; empty where there was none."""
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def write_stamp(build: str, testing: bool) -> None:
    """Note that the set-up is complete, with the PyTorch build that was asked for by name ("" for our own choice)."""
    stamp = {"build": build, "studio": fingerprint(False)}
    if testing:
        stamp["tests"] = fingerprint(True)
    temporary = STAMP.with_suffix(".new")
    temporary.write_text(json.dumps(stamp), encoding="utf-8")
    temporary.replace(STAMP)


def requirement_files(testing: bool) -> list[Path]:
    """What the studio needs, and what its tests need on top."""
    return [ROOT / "requirements.txt", *([ROOT / "tests" / "requirements.txt"] if testing else [])]


def fingerprint(testing: bool) -> str:
    """Changes with the requirements, the Python behind the environment and the NVIDIA driver."""
    facts = [file.read_text(encoding="utf-8") for file in requirement_files(testing)]
    try:
        python = PYTHON.resolve(strict=True)
        facts += [f"{python} {python.stat().st_size} {python.stat().st_mtime_ns}"]
        facts += [DRIVER.read_text(encoding="utf-8")]
    except OSError:
        facts += ["absent"]
    return "\n".join(facts)
