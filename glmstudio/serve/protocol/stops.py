"""Texts that end an answer, found across the borders of tokens and never shown."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Passes text on, but holds back what may be the beginning of a stop text. `met` once one came."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text for text in texts if text]
        self._held = ""
        self.met = False

    def push(self, text: str) -> str:
        """The text that is certain to be shown; nothing from a stop text on."""
        if not self._texts or self.met:
            return "" if self.met else text
        self._held += text
        found = [(place + len(stop), place) for stop in self._texts if (place := self._held.find(stop)) >= 0]
        if found:
            # The one that is whole first, as if each letter had come alone: tokens must not decide.
            self.met = True
            shown, self._held = self._held[: min(found)[1]], ""
            return shown
        keep = max((self._overlap(stop) for stop in self._texts), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """What was held back for nothing."""
        shown, self._held = self._held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        """How long an end of the held text is with which `stop` begins."""
        return next((n for n in range(min(len(stop) - 1, len(self._held)), 0, -1) if self._held.endswith(stop[:n])), 0)
