"""What a report comes to, in one sentence: the same on the page and in the rail."""

from __future__ import annotations

from dataclasses import dataclass

from glmstudio.doctor import Finding, Report
from glmstudio.words import say


@dataclass(frozen=True)
class CheckupVerdict:
    """`look` is good or bad; `cards` are the problems that are shown one by one."""

    look: str
    text: str  # the key of its sentence
    count: int  # of what needs somebody, or of notes
    cards: tuple[Finding, ...]

    def words(self, lang: str) -> str:
        """The sentence."""
        return say(lang, f"ui.doctor.{self.text}", n=self.count)


def judge(report: Report) -> CheckupVerdict:
    """Errors need somebody; with nothing but warnings one can go on, and they are notes."""
    cards, errors, notes = report.told, report.errors, report.notes
    if errors:
        return CheckupVerdict("bad", "needs_one" if errors == 1 else "needs_many", errors, cards)
    if notes:
        return CheckupVerdict("good", "ready_note" if notes == 1 else "ready_notes", notes, cards)
    return CheckupVerdict("good", "ready", 0, ())
