"""What a check is, and the facts that several checks share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from glmstudio.doctor.report import Result, Status

Fact = TypeVar("Fact")


class Probes:
    """Facts about the machine, each found out once per diagnosis however many checks ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[Callable[[], Any], Future[Any]] = {}

    def ask(self, question: Callable[[], Fact]) -> Fact:
        """The answer of `question()`; whoever asks while it is being found out waits for the same answer."""
        with self._lock:
            first = question not in self._answers
            answer = self._answers.setdefault(question, Future())
        if first:
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001  it is raised again in every check that asked
                answer.set_exception(error)
        return cast("Fact", answer.result())

    def known(self, question: Callable[[], Fact], default: Fact) -> Fact:
        """The answer if it has been found out already without an error, else `default`."""
        answer = self._answers.get(question)
        return answer.result() if answer and answer.done() and not answer.exception() else default


@dataclass(frozen=True)
class Found:
    """What a check function returns: the status, the case (a table of its words) and their values."""

    status: Status
    case: str
    values: dict[str, Any]


def found(status: Status, case: str, **values: Any) -> Found:
    """A short way to write a `Found`."""
    return Found(status, case, values)


@dataclass(frozen=True)
class Check:
    """A check: how it is called, how long it may take, and the function that does it."""

    id: str
    family: str
    limit: float
    function: Callable[[Probes], Found]

    def run(self, probes: Probes) -> Result:
        """The result of the function."""
        outcome = self.function(probes)
        return Result(self.id, self.family, outcome.status, outcome.case, outcome.values)


CHECKS: list[Check] = []


def check(
    name: str, *, family: str, limit: float = 5
) -> Callable[[Callable[[Probes], Found]], Callable[[Probes], Found]]:
    """Make a function a check. It takes the shared probes, may raise, and is given `limit` seconds."""

    def register(function: Callable[[Probes], Found]) -> Callable[[Probes], Found]:
        CHECKS.append(Check(name, family, limit, function))
        return function

    return register
