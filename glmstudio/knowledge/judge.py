"""Whether an answer is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Judgement:
    """The judgement of one answer."""

    right: bool
    reason: str
    missing: tuple[str, ...] = ()


def judge(question: str, due: str, said: str, keywords: Sequence[str] = ()) -> Judgement:
    """Whether the answer holds the key words."""
    del question
    keys = list(keywords) or [due.strip(" .。")]
    ok = all(any(a in said for a in k.split("|")) for k in keys)
    return Judgement(ok, "right" if ok else "missing")


def broken(said: str, *, ended: bool, due: str = "", question: str = "") -> str | None:
    """What is broken."""
    del due, question
    return "endless" if not ended else "empty" if not said.strip() else None
