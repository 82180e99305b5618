"""Numbers as a person reads them."""

from __future__ import annotations

import contextlib
from datetime import datetime

from glmstudio.words import say


def size(count: float) -> str:
    """Bytes of a disk or a download with the unit that fits, as their makers count them: `11.6 GB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def memory(mib: float) -> str:
    """Mebibytes of memory, as drivers count it, with the unit that fits: `21.4 GiB`."""
    return memory_bytes(mib * 2**20)


def memory_bytes(count: float) -> str:
    """Bytes of memory with the unit that fits, in powers of 1024 as `nvidia-smi` has them: what is sold as 24 GB is
    `24.0 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1000 or unit == "GiB":  # not 1024: four digits would be one too many
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def duration(lang: str, seconds: float) -> str:
    """A span of time in its two largest units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return say(lang, "units.seconds", s=whole)
    if whole < 3600:
        return say(lang, "units.minutes", m=whole // 60, s=whole % 60)
    if whole < 86400:
        return say(lang, "units.hours", h=whole // 3600, m=whole % 3600 // 60)
    return say(lang, "units.days", d=whole // 86400, h=whole % 86400 // 3600)


def milliseconds(seconds: float) -> str:
    """A short span: `12.3 ms`."""
    return f"{seconds * 1000:,.1f} ms"


def moment(seconds: float | None) -> str:
    """A time since 1970 as day and time of day; empty for none, and for one that no calendar has."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(seconds).astimezone().strftime("%m-%d %H:%M") if seconds else ""
    return ""


def number(value: float) -> str:
    """Four digits that matter: `0.0123`, `1,234`."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def literal(name: str) -> str:
    """A name from outside as gradio shows it: a word that is one of gradio's own text keys would be translated."""
    return f"{name}\u200b" if name.replace(".", "").replace("_", "").isalpha() and name.isascii() else name
