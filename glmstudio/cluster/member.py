"""One machine of a run as the first one sees it, and what can be seen of one that is not there."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.rundir.machines import Machine

HERE = ("joined", "training")  # states of a machine that speaks
_PROBE = 3.0  # seconds


@dataclass
class Member:
    """One machine as the first one sees it. `state`: missing, joined, training, ended, lost, refused, gone."""

    number: int
    machine: Machine
    state: str = "missing"
    since: float = field(default_factory=time.time)
    heard: float = 0.0  # by a clock that nobody sets
    heard_at: float | None = None
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

    def turn(self, state: str) -> None:
        """It is in this state now."""
        if state != self.state:
            self.state, self.since = state, time.time()

    def to_json(self) -> dict[str, Any]:
        """What `cluster.json` says of it."""
        return {
            "number": self.number, "address": self.machine.address, "ip": self.machine.ip, "host": self.host,
            "processes": self.machine.processes, "state": self.state, "since": self.since, "heard": self.heard_at,
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
