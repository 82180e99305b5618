"""What is wrong with the records of a source: one problem a record, and of many of a kind only the first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from glmstudio.errors import StudioError

KEPT = 1000  # of one kind in one file; the others are counted


@dataclass(frozen=True)
class Problem:
    """Why one record cannot be used: the file, its line (counted from 1), the reason, and the fix if there is one."""

    file: str
    line: int
    reason: StudioError
    fix: str | None = None

    @property
    def kind(self) -> tuple[str, str]:
        """Those with the same one are alike: of one kind, and in one file."""
        return self.file, self.reason.key

    def text(self, lang: str = "en") -> str:
        """The reason as a sentence."""
        return self.reason.what(lang)

    def to_json(self, lang: str = "en") -> dict[str, Any]:
        """As `data check --json` prints it."""
        return {"file": self.file, "line": self.line, "reason": self.text(lang)}


@dataclass
class ProblemTally:
    """The problems of a source in their order. What it holds does not grow with the records: of each kind in a file it
    keeps the first `KEPT`, and counts all."""

    kept: list[Problem] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    fixable: int = 0

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> ProblemTally:
        """The tally of all of these."""
        tally = cls()
        for problem in problems:
            tally.add(problem)
        return tally

    @property
    def count(self) -> int:
        """How many there are in all."""
        return sum(self.counts.values())

    @property
    def not_kept(self) -> dict[tuple[str, str], int]:
        """How many of each kind in a file are counted only."""
        return {kind: count - KEPT for kind, count in self.counts.items() if count > KEPT}

    def add(self, problem: Problem) -> None:
        """Count it, and keep it while there are few of its kind."""
        count = self.counts[problem.kind] = self.counts.get(problem.kind, 0) + 1
        self.fixable += problem.fix is not None
        if count <= KEPT:
            self.kept.append(problem)
