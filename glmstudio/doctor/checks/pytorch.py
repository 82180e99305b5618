"""PyTorch, asked in a process of its own: it takes seconds and much memory. One child answers all questions."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from glmstudio.doctor.checks.gpu import version
from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.files import read_json, write_json
from glmstudio.paths import paths
from glmstudio.setup import torch_build
from glmstudio.setup.messages import Stop
from glmstudio.system.nvml import GpuReading, read_cards

_LIMIT = 60.0  # a cold disk, a busy machine
# The facts come first, then a line before and after each card's sum: of a child that hangs it is known where.
_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
count = torch.cuda.device_count() if cuda else 0
print(json.dumps({
    "version": torch.__version__, "cuda": torch.version.cuda, "available": cuda, "count": count,
    "architectures": torch.cuda.get_arch_list() if cuda else [],
}), flush=True)
for index in range(count):
    print(json.dumps({"card": index, "sum": "late"}), flush=True)
    try:
        left = torch.randn(256, 256, device=f"cuda:{index}", dtype=torch.float16, requires_grad=True)
        (left @ left).float().square().mean().backward()
        torch.cuda.synchronize(index)
        outcome = "ok" if torch.isfinite(left.grad).all().item() else "the result is not a number"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    print(json.dumps({"card": index, "sum": outcome}), flush=True)
"""


@check("torch.start", family="pytorch", limit=_LIMIT + 5, before_start=True)
def start(probes: Probes) -> Finding:
    """PyTorch: that it is there and starts."""
    if importlib.util.find_spec("torch") is None:
        return found("error", "missing")
    try:
        facts = probes.ask(remembered_facts)
    except subprocess.TimeoutExpired:
        return found("warning", "slow", limit=_LIMIT)
    except (subprocess.CalledProcessError, ValueError) as error:
        return found("error", "broken", error=_last_line(error), action="torch.install")
    values = {"version": facts["version"], "cuda": facts["cuda"], "count": facts["count"]}
    return found("ok", "ok" if facts["available"] else "processor", **values)


@check("torch.cuda_build", family="pytorch", limit=_LIMIT + 5)
def cuda_build(probes: Probes) -> Finding | None:
    """A PyTorch without support for cards on a machine that has one."""
    facts, cards = torch_facts(probes), probes.ask(read_cards)
    if facts is None or not cards.gpus:
        return None
    if facts["cuda"] is None:
        return _reinstall("processor_only", cards, version=facts["version"], card=cards.gpus[0].name)
    return found("ok", "ok", version=facts["version"], cuda=facts["cuda"])


@check("torch.driver_match", family="pytorch", limit=_LIMIT + 5)
def driver_match(probes: Probes) -> Finding | None:
    """A PyTorch that is newer than the driver can serve."""
    facts, cards = torch_facts(probes), probes.ask(read_cards)
    if facts is None or not cards.gpus or facts["cuda"] is None or _hidden():
        return None
    if facts["available"]:
        return found("ok", "ok", driver=cards.driver, cuda=facts["cuda"])
    return _reinstall("no_access", cards, version=facts["version"], cuda=facts["cuda"])


@check("torch.arch_match", family="pytorch", limit=_LIMIT + 5, before_start=True)
def arch_match(probes: Probes) -> Finding | None:
    """A PyTorch without code for a card: it says that the card is there, and fails at the first calculation."""
    facts, cards = torch_facts(probes), probes.ask(read_cards)
    if facts is None or not cards.gpus or not facts["available"]:
        return None
    for gpu in cards.gpus:
        if gpu.capability != (0, 0) and not has_code_for(gpu.capability, facts["architectures"]):
            capability = "{}.{}".format(*gpu.capability)
            return _reinstall("no_code", cards, version=facts["version"], card=gpu.name, capability=capability)
    return found("ok", "ok", count=len(cards.gpus))


@check("gpu.kernel_smoke", family="pytorch", limit=_LIMIT + 5, before_start=True)
def kernel_smoke(probes: Probes) -> list[Finding] | None:
    """A small sum on each card, there and back, which only a working card, driver and PyTorch can do together."""
    facts = torch_facts(probes)
    return [_judge_sum(*pair) for pair in sorted(facts["sums"].items())] if facts and facts["sums"] else None


def _judge_sum(card: str, outcome: str) -> Finding:
    subject = f"GPU {card}"
    if outcome == "ok":
        return found("ok", "ok", subject=subject)
    if outcome == "late":
        return found("error", "late", subject=subject, card=card, limit=_LIMIT)
    if "out of memory" in outcome:
        return found("warning", "full", subject=subject, card=card)
    if "no kernel image" in outcome:
        return found("error", "no_code", subject=subject, card=card, action="torch.install")
    return found("error", "failed", subject=subject, card=card, error=outcome)


def _reinstall(case: str, cards: GpuReading, **values: Any) -> Finding:
    """A finding whose remedy is another build: the launcher's own choice, so that both say the same."""
    known = [gpu.capability for gpu in cards.gpus if gpu.capability != (0, 0)]
    values |= {"driver": cards.driver, "build": ""}
    try:
        build = torch_build.pick(min(known, default=(8, 0)), version(cards.driver))
    except Stop:
        return Finding("error", case, values, remedy="old_driver")
    return Finding("error", case, values | {"build": build}, action="torch.install")


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


def torch_facts(probes: Probes) -> dict[str, Any] | None:
    """What PyTorch says of itself; None where it cannot be asked, which `torch.start` tells."""
    try:
        return probes.ask(remembered_facts)
    except (subprocess.SubprocessError, ValueError, OSError):
        return None


def remembered_facts() -> dict[str, Any]:
    """PyTorch's own answers, from the last time if nothing changed since; a card can fail, so its answers age."""
    cards = read_cards()
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
    with contextlib.suppress(OSError):  # a full disk is told by its own check
        write_json(file, {"key": key, "time": time.time(), "facts": facts})
    return facts


def ask_torch(python: str = sys.executable, limit: float = _LIMIT) -> dict[str, Any]:
    """What PyTorch says of itself, with the `sums` of its cards (by number: "ok", "late" or the error).

    Raises CalledProcessError, TimeoutExpired, or ValueError for no clear answer.
    """
    command = [python, "-c", _ASK_TORCH]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            output, errors = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            child.kill()
            output, errors = child.communicate()
            if not output.strip().startswith("{"):
                raise
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{") and line.endswith("}")]
    if not lines or "version" not in lines[0]:
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, command, output, errors)
        raise ValueError(output[-300:])
    return {**lines[0], "sums": {str(line["card"]): line["sum"] for line in lines[1:]}}


def _hidden() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def _key(cards: GpuReading) -> str:
    spec = importlib.util.find_spec("torch")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    about = folder / "version.py"
    changed = about.stat().st_mtime_ns if about.exists() else 0
    uuids = " ".join(gpu.uuid for gpu in cards.gpus)
    return f"2 {sys.executable} {folder} {changed} {cards.driver} {uuids} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}"


def _last_line(error: subprocess.CalledProcessError | ValueError) -> str:
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return (text or str(error)).strip().rpartition("\n")[2][:300]
