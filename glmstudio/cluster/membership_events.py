"""What happens in a run of several machines, and what `membership.step` orders to be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glmstudio.cluster.member import Member
from glmstudio.errors import StudioError

# What machines say.


@dataclass(frozen=True)
class Sender:
    """Who speaks: the address, the number that it gives itself, and the token by which it is known again."""

    ip: str
    number: Any
    token: str


@dataclass(frozen=True)
class AskToJoin:
    """A machine asks which one it is, and what is asked of it."""

    sender: Sender


@dataclass(frozen=True)
class Join:
    """A machine shows that it fits. `closed`: the port at which it was tried in vain to reach it."""

    sender: Sender
    host: str
    facts: Mapping[str, Any]
    closed: str | None = None


@dataclass(frozen=True)
class StatusReport:
    """How it goes there; `log`: what was printed since."""

    sender: Sender
    state: str
    problem: StudioError | None = None
    fatal: bool = False
    memory: int = 0
    log: bytes = b""


# What the first machine sees.


@dataclass(frozen=True)
class Gather:
    """It waits for the others, for the cluster's time."""


@dataclass(frozen=True)
class Probed:
    """What could be seen of a machine that is missing."""

    number: int
    problem: StudioError


@dataclass(frozen=True)
class OwnState:
    """The first machine itself is in this state."""

    state: str


@dataclass(frozen=True)
class Look:
    """It looks after the training. `saved`: the step of the newest checkpoint, None where nobody looked; `idle`: no
    step is being made; `leaving`: the training has ended; `stop`: somebody wants it to end at once."""

    memory: int = 0
    saved: int | None = None
    idle: bool = False
    leaving: bool = False
    stop: bool = False


@dataclass(frozen=True)
class End:
    """The run is over."""

    outcome: str


@dataclass(frozen=True)
class Wait:
    """It waits for the others to leave."""


Event = AskToJoin | Join | StatusReport | Gather | Probed | OwnState | Look | End | Wait

# What has to be done.


@dataclass(frozen=True)
class Reply:
    """Answer the message."""

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Refuse:
    """Answer the message with a problem."""

    problem: StudioError


@dataclass(frozen=True)
class KeepLog:
    """Write down what a machine has printed."""

    number: int
    data: bytes


@dataclass(frozen=True)
class ProbeMissing:
    """Look why these are missing."""

    members: tuple[Member, ...]


@dataclass(frozen=True)
class Begin:
    """Start torchrun: all are here, or enough."""


@dataclass(frozen=True)
class RestartWorkers:
    """End the workers, which would wait for a machine that is gone; torchrun starts them anew."""


@dataclass(frozen=True)
class Fail:
    """The run cannot go on."""

    problem: StudioError


Order = Reply | Refuse | KeepLog | ProbeMissing | Begin | RestartWorkers | Fail
