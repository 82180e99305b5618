"""Python and what is installed in it. PyTorch is asked in a process of its own: it takes seconds and much memory."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from glmstudio.doctor.checks import Found, Probes, check, found
from glmstudio.doctor.nvml import Cards, read_cards
from glmstudio.files import read_json, write_json
from glmstudio.paths import ROOT, paths

_LIMIT = 60.0  # a cold disk, a busy machine
_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__, "cuda": torch.version.cuda, "available": cuda,
    "count": torch.cuda.device_count() if cuda else 0, "architectures": torch.cuda.get_arch_list() if cuda else [],
}))
"""


@check("py.version", family="pytorch")
def python(_: Probes) -> Found:
    """The Python that runs the studio."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        return found("ok", "ok", version=version, folder=sys.prefix)
    return found("error", "unfit", version=version)


@check("py.deps", family="pytorch")
def packages(_: Probes) -> Found:
    """Whether what requirements.txt names is installed, in the range that it names."""
    wrong = [text for requirement in _requirements() if (text := _unmet(requirement))]
    if wrong:
        return found("error", "unmet", packages="; ".join(wrong))
    return found("ok", "ok", count=len(_requirements()))


@check("torch.start", family="pytorch", limit=_LIMIT + 5)
def torch(probes: Probes) -> Found:
    """PyTorch: that it starts, and that it can use the cards of this machine."""
    if importlib.util.find_spec("torch") is None:
        return found("error", "missing")
    cards = probes.ask(read_cards)
    try:
        facts = _remembered(cards)
    except subprocess.TimeoutExpired:
        return found("warning", "slow", limit=_LIMIT)
    except (subprocess.CalledProcessError, ValueError) as error:
        return found("error", "broken", error=_last_line(error))
    return _judge(facts, cards)


def _judge(facts: dict[str, Any], cards: Cards) -> Found:
    values = {"version": facts["version"], "cuda": facts["cuda"], "count": facts["count"]}
    if not cards.gpus:
        return found("ok", "processor", **values)
    if facts["cuda"] is None:
        return found("error", "processor_only", **values, card=cards.gpus[0].name)
    if not facts["available"]:
        if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
            return found("info", "hidden", **values)
        return found("error", "no_access", **values, driver=cards.driver)
    for gpu in cards.gpus:
        if gpu.capability != (0, 0) and not has_code_for(gpu.capability, facts["architectures"]):
            return found("error", "no_code", **values, card=gpu.name, capability="{}.{}".format(*gpu.capability))
    return found("ok", "ok", **values)


def has_code_for(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether a build runs on a card: code of the same major version that is not newer, or code to be translated."""
    for architecture in architectures:
        kind, _, number = architecture.partition("_")
        digits = "".join(filter(str.isdigit, number))
        if len(digits) < 2:
            continue
        built = (int(digits[:-1]), int(digits[-1]))
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return False


def _remembered(cards: Cards) -> dict[str, Any]:
    """PyTorch's own answers, from the last time if nothing changed since; a card can fail, so its answers age."""
    file = paths().state / "torch.json"
    key = _key(cards)
    kept = read_json(file, {})
    if (
        isinstance(kept, dict)
        and kept.get("key") == key
        and 0 <= time.time() - kept.get("time", 0) < (600 if cards.gpus else 86400)
    ):
        return dict(kept["facts"])
    facts = ask_torch()
    write_json(file, {"key": key, "time": time.time(), "facts": facts})
    return facts


def ask_torch(python: str = sys.executable, limit: float = _LIMIT) -> dict[str, Any]:
    """What PyTorch says of itself. Raises CalledProcessError, TimeoutExpired, or ValueError for no clear answer."""
    child = subprocess.run([python, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=limit, check=True)
    answer = json.loads(child.stdout.strip().rpartition("\n")[2])
    return dict(answer)


def _key(cards: Cards) -> str:
    spec = importlib.util.find_spec("torch")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    version = folder / "version.py"
    changed = version.stat().st_mtime_ns if version.exists() else 0
    return f"{sys.executable} {folder} {changed} {cards.driver} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}"


def _last_line(error: subprocess.CalledProcessError | ValueError) -> str:
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return (text or str(error)).strip().rpartition("\n")[2][:300]


def _requirements(file: Path = ROOT / "requirements.txt") -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    parsed = []
    for line in filter(None, lines):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            parsed.append(requirement)
    return parsed


def _unmet(requirement: Requirement) -> str:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return requirement.name
    fits = requirement.specifier.contains(version, prereleases=True)
    return "" if fits else f"{requirement.name} {version} ({requirement.specifier})"
