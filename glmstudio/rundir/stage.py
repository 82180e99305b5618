"""Where a stop, or the part that a machine takes in a run, is: a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass, field

from glmstudio.words import say


@dataclass(frozen=True)
class Stage:
    """The key of its sentence, and what fills it in."""

    key: str
    values: dict[str, str] = field(default_factory=dict)

    def text(self, lang: str = "en") -> str:
        """The stage as a sentence."""
        return say(lang, self.key, **self.values)
