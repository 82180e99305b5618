"""One machine of a run as the first one sees it, and what can be seen of one that is not there."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.rundir.machines import Machine

HERE = ("joined", "training")  # states of a machine that speaks
_PROBE = 3.0  # seconds


@dataclass(frozen=True)
class Member:
    """One machine as the first one sees it. `state`: missing, joined, training, ended, lost, refused, gone.

    `since` and `heard` are times of a clock that nobody sets. `admitted`: it takes part, or may begin to.
    """

    number: int
    machine: Machine
    state: str = "missing"
    since: float = 0.0
    heard: float | None = None
    host: str = ""
    token: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    problem: StudioError | None = None
    fatal: bool = False  # its problem ends the run
    admitted: bool = False
    memory: int = 0
    logged: int = 0

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.number} ({self.host or self.machine.address})"

    @property
    def waits(self) -> bool:
        """Whether it has joined and does not take part yet."""
        return self.state == "joined" and not self.admitted

    def turned(self, state: str, now: float) -> Member:
        """In this state since now, where it was in another one."""
        return self if state == self.state else replace(self, state=state, since=now)

    def to_json(self, epoch: float) -> dict[str, Any]:
        """What `cluster.json` says of it; `epoch`: the time since 1970 at which the clock stood at 0."""
        return {
            "number": self.number, "address": self.machine.address, "ip": self.machine.ip, "host": self.host,
            "processes": self.machine.processes, "state": self.state, "since": epoch + self.since,
            "heard": None if self.heard is None else epoch + self.heard,
            "problem": self.problem.to_json() if self.problem else None, "memory": self.memory,
            "versions": {name: self.facts.get(name) for name in ("program", "torch")},
        }  # fmt: skip


def why_closed(ip: str, port: int, seconds: float = _PROBE) -> str:
    """Why nobody can be reached there: refused, unreachable (no way leads there) or silent; "" where somebody can."""
    try:
        socket.create_connection((ip, port), seconds).close()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silent"
    except OSError:
        return "unreachable"
    return ""


def why_missing(member: Member, port: int) -> StudioError:
    """What can be seen from here of a machine that has not joined."""
    words: dict[str, Callable[..., StudioError]] = {
        "silent": lambda **values: StudioError("cluster.no_answer", **values),
        "unreachable": lambda **values: StudioError("cluster.no_way", **values),
    }
    found = words.get(why_closed(member.machine.ip, port), lambda **values: StudioError("cluster.not_begun", **values))
    return found(machine=member.name, ip=member.machine.ip)
