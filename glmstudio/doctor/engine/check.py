"""What a check is, and the facts that several checks share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from glmstudio.doctor.engine.report import Finding, Status
from glmstudio.words import say

Fact = TypeVar("Fact")


class Probes:
    """Facts about the machine, each found out once per diagnosis however many checks ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[Callable[..., Any], Future[Any]] = {}

    def ask(self, question: Callable[[], Fact]) -> Fact:
        """The answer of `question()`; whoever asks while it is being found out waits for the same answer."""
        return self._find_out(question, question)

    def ask_with_probes(self, question: Callable[[Probes], Fact]) -> Fact:
        """The same for a question that itself asks for facts: `question(probes)`."""
        return self._find_out(question, lambda: question(self))

    def _find_out(self, question: Callable[..., Fact], answer_it: Callable[[], Fact]) -> Fact:
        with self._lock:
            first = question not in self._answers
            answer = self._answers.setdefault(question, Future())
        if first:
            try:
                answer.set_result(answer_it())
            except Exception as error:  # noqa: BLE001  it is raised again in every check that asked
                answer.set_exception(error)
        return cast("Fact", answer.result())

    def known(self, question: Callable[..., Fact], default: Fact) -> Fact:
        """The answer if it has been found out already without an error, else `default`."""
        answer = self._answers.get(question)
        return answer.result() if answer and answer.done() and not answer.exception() else default


def found(
    status: Status, case: str, *, subject: str = "", action: str = "", remedy: str = "", **values: Any
) -> Finding:
    """A short way to write a `Finding`."""
    return Finding(status, case, values, subject, action, remedy)


Outcome = Finding | list[Finding] | None
Function = Callable[[Probes], Outcome]


@dataclass(frozen=True)
class Check:
    """A check: how it is called, how long it may take, and the function that does it.

    `before_start`: it belongs to the few that are made before each training. `deep`: it takes long and is made only
    when somebody asks for it.
    """

    id: str
    family: str
    limit: float
    function: Function
    before_start: bool = False
    deep: bool = False

    def about(self, lang: str) -> str:
        """What it looks at, in a line."""
        return say(lang, f"doctor.{self.id}.about")

    def to_json(self, lang: str) -> dict[str, Any]:
        """The check for other programs; `name` is what `doctor CHECK` takes."""
        title = say(lang, f"doctor.{self.id}.title")
        facts = {"family": self.family, "before_start": self.before_start, "deep": self.deep}
        return {"name": self.id, "title": title, "about": self.about(lang), **facts}

    def run(self, probes: Probes) -> list[Finding]:
        """What the function found; one finding that says so where the check does not apply to this machine."""
        outcome = self.function(probes) or Finding("skipped", "skipped")
        each = [outcome] if isinstance(outcome, Finding) else outcome
        return [replace(one, id=self.id, family=self.family) for one in each]


CHECKS: list[Check] = []
FAMILIES = ("card", "pytorch", "models", "network", "leftovers", "machine")  # in the order of the report


def check(
    name: str, *, family: str, limit: float = 5, before_start: bool = False, deep: bool = False
) -> Callable[[Function], Function]:
    """Make a function a check: it takes the shared probes, may raise, and is given `limit` seconds.

    It returns what it found, a list where there are several subjects, or None where it does not apply here.
    """

    def register(function: Function) -> Function:
        CHECKS.append(Check(name, family, limit, function, before_start, deep))
        return function

    return register
