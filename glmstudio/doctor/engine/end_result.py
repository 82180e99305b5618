"""What became of a process that was to be ended, with the proof."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from glmstudio.units import memory
from glmstudio.words import say

Outcome = Literal[
    "ended", "gone", "changed", "expired", "stuck", "shared",
    "nobody", "other_user", "run", "training", "no_leftover",  # what was asked for by number and never listed
]  # fmt: skip


@dataclass(frozen=True)
class EndResult:
    """What became of one process that was to be ended."""

    token: str
    pid: int | None
    outcome: Outcome
    freed_ports: tuple[int, ...] = ()
    kept_ports: tuple[int, ...] = ()  # at which another process listens, too
    freed_mib: int | None = None  # of the GPUs' memory; None where it held none, or where nobody can tell
    kept_mib: int | None = None  # that the driver still counts as its own
    values: dict[str, Any] = field(default_factory=dict)  # what else fills in the sentence

    @property
    def is_over(self) -> bool:
        """Whether the process is no more."""
        return self.outcome in ("ended", "gone")

    def to_json(self, lang: str) -> dict[str, Any]:
        """All but the token."""
        facts = {name: value for name, value in asdict(self).items() if name not in ("token", "values")}
        return facts | {"text": self.text(lang)}

    def text(self, lang: str) -> str:
        """The outcome as a sentence, with the proof of what is free again and what is not."""
        parts = [say(lang, f"doctor.end.{self.outcome}", pid=self.pid, **self.values)]
        for case, ports in (("ports", self.freed_ports), ("kept_ports", self.kept_ports)):
            parts += [say(lang, f"doctor.end.{case}", ports=", ".join(map(str, ports)))] if ports else []
        for case, mib in (("memory", self.freed_mib), ("kept_memory", self.kept_mib)):
            parts += [say(lang, f"doctor.end.{case}", memory=memory(mib))] if mib else []
        return sentences(lang, parts)


def sentences(lang: str, parts: list[str]) -> str:
    """Sentences after each other, as that language sets them."""
    return (" " if lang == "en" else "").join(parts)
