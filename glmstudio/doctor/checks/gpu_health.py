"""How the cards are: damaged memory, heat, modes that shut programs out, and what the kernel's log says of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from glmstudio.doctor.checks.pytorch import torch_facts
from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.system.environment import in_container, in_wsl
from glmstudio.system.nvml import GpuHealth, read_health

_HOT = 0x20 | 0x40  # slowed by software, by hardware, for heat
_STARVED = 0x08 | 0x80  # slowed by hardware, or by the power supply; idle (0x1) and its power limit (0x4) are normal
_EXCLUSIVE, _PROHIBITED = 3, 2
_XID = re.compile(r"NVRM: Xid \((?P<card>[^)]*)\): (?P<number>\d+)")
_BROKEN_XIDS = {48, 64, 74, 79, 95}  # memory that cannot be corrected, links, a card that fell off the bus
_WORN_XID = 63


@check("gpu.health", family="card", limit=10)
def health(probes: Probes) -> list[Finding] | None:
    """Damaged memory, as the card itself counts it."""
    cards = probes.ask(read_health)
    return [_judge(card) for card in cards] or None


def _judge(card: GpuHealth) -> Finding:
    values = {"name": card.name, "index": card.index}
    subject = f"GPU {card.index}"
    if card.remap_failed or card.recovery >= 1:
        return Finding("error", "failing", values, subject=subject)
    if card.uncorrected:
        return Finding("error", "uncorrected", values | {"count": card.uncorrected}, subject=subject)
    if card.retiring or card.remap_pending:
        return Finding("warning", "pending", values, subject=subject)
    return Finding("ok", "ok", values, subject=subject)


@check("gpu.thermal", family="card", limit=10)
def thermal(probes: Probes) -> list[Finding] | None:
    """A card that slows itself down. Being idle, or at its power limit under load, is normal."""
    slowed = []
    for card in probes.ask(read_health):
        values = {"name": card.name, "degrees": card.temperature_c if card.temperature_c is not None else "–"}
        if card.slowed & _HOT:
            slowed.append(Finding("warning", "hot", values, subject=f"GPU {card.index}"))
        elif card.slowed & _STARVED:
            slowed.append(Finding("warning", "starved", values, subject=f"GPU {card.index}"))
    return slowed or ([found("ok", "ok")] if probes.ask(read_health) else None)


@check("gpu.mode", family="card", limit=10)
def mode(probes: Probes) -> list[Finding] | None:
    """Modes that let no program, or only one, use a card."""
    results = []
    for card in probes.ask(read_health):
        values, subject = {"index": card.index, "name": card.name}, f"GPU {card.index}"
        if card.mode == _PROHIBITED:
            results.append(Finding("error", "prohibited", values, subject=subject))
        elif card.mode == _EXCLUSIVE:
            results.append(Finding("info", "exclusive", values, subject=subject))
        elif card.mig:
            results.append(Finding("info", "mig", values, subject=subject))
    return results or ([found("ok", "ok")] if probes.ask(read_health) else None)


@check("gpu.uvm", family="card", limit=65)
def device_file(probes: Probes) -> Finding | None:
    """The device file that CUDA needs besides the cards' own. The first program makes it, so torch is asked before."""
    if not probes.ask(read_health) or in_wsl():
        return None
    facts = torch_facts(probes)
    if facts is None or facts["cuda"] is None or facts["available"] or Path("/dev/nvidia-uvm").exists():
        return None
    return found("error", "missing", remedy="container" if in_container() else "")


@check("gpu.xid", family="card", limit=8)
def kernel_log(probes: Probes) -> list[Finding] | None:
    """What the driver wrote to the kernel's log in the last day. Nothing is known where this user may not read it."""
    if not probes.ask(read_health):
        return None
    lines = read_log()
    return None if lines is None else judge_log(lines)


def read_log() -> list[str] | None:
    """The driver's errors of the last 24 hours; None where nobody may read them."""
    if not shutil.which("journalctl"):
        return None
    command = ["journalctl", "-k", "--since", "-24h", "--grep", "NVRM: Xid", "--no-pager", "--quiet", "--output", "cat"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    unreadable = done.returncode != 0 and not done.stdout and bool(done.stderr.strip())
    return None if unreadable else done.stdout.splitlines()


def judge_log(lines: Iterable[str]) -> list[Finding]:
    """The findings of these lines, one for each kind of error."""
    matches = filter(None, map(_XID.search, lines))
    numbers = sorted({int(match["number"]) for match in matches})
    broken = [number for number in numbers if number in _BROKEN_XIDS]
    found_errors = [found("error", "broken", subject=f"Xid {number}", number=number) for number in broken]
    if _WORN_XID in numbers:
        found_errors.append(found("warning", "worn", subject=f"Xid {_WORN_XID}", number=_WORN_XID))
    return found_errors or [found("ok", "ok")]
