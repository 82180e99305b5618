"""Who takes part in a run of several machines, as a pure function: `step(state, event, now)` returns the next state
and what has to be done about it.

An event is a machine's message, or what the first machine sees at its own side. `now` is in seconds of a clock that
nobody sets. Nothing else changes what is known of the machines, so each case is a row in a table of the tests.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from typing import Any

from glmstudio.cluster.member import HERE, Member
from glmstudio.cluster.membership_events import (
    AskToJoin,
    Begin,
    End,
    Event,
    Fail,
    Gather,
    Join,
    KeepLog,
    Look,
    Order,
    OwnState,
    Probed,
    ProbeMissing,
    Refuse,
    Reply,
    RestartWorkers,
    Sender,
    StatusReport,
    Wait,
)
from glmstudio.errors import StudioError
from glmstudio.rundir.fingerprint import difference, what_differs
from glmstudio.rundir.machines import Cluster

SILENT = 6.0  # seconds without a word after which a machine counts as lost; it speaks every second
LOG = 16 << 20  # bytes that are kept of a machine's log
_PROBE_EVERY = 5.0  # seconds between two looks for who is missing


@dataclass(frozen=True)
class Membership:
    """The machines and what they are told: `order` is go (as far as admitted), stop (end at once) or over (`outcome`
    says how the run ended). `until`: while machines are waited for at the start, until when."""

    run: str
    cluster: Cluster
    members: tuple[Member, ...]
    order: str = "go"
    outcome: str = ""
    restarts: int = 0
    until: float | None = None
    probed: float | None = None  # when it was looked last why some are missing
    short: float | None = None  # since when there are too few
    running: frozenset[int] = frozenset()  # the numbers of those with which torchrun was started last
    saved: int | None = None  # the newest checkpoint when somebody began to wait for the next one

    @property
    def others(self) -> tuple[Member, ...]:
        """All but the first machine."""
        return self.members[1:]

    @property
    def too_few(self) -> int:
        """How many machines are missing to go on."""
        return self.cluster.least - 1 - sum(each.state in (*HERE, "ended") for each in self.others)

    @property
    def waiting(self) -> bool:
        """Whether somebody has joined and waits to be admitted."""
        return any(each.waits for each in self.others)

    @property
    def admitted(self) -> frozenset[int]:
        """The numbers of those that take part."""
        return frozenset(each.number for each in self.others if each.admitted)

    def having(self, member: Member) -> Membership:
        """With this member in the place of its former self."""
        return replace(self, members=tuple(member if each.number == member.number else each for each in self.members))

    def to_json(self, epoch: float) -> dict[str, Any]:
        """What `cluster.json` says; `epoch` as in `Member.to_json`."""
        until = None if self.until is None else epoch + self.until
        about = {"until": until, "restarts": self.restarts, "order": self.order}
        return about | {"machines": [each.to_json(epoch) for each in self.members]}


Next = tuple[Membership, tuple[Order, ...]]


def step(state: Membership, event: Event, now: float) -> Next:
    """What follows from an event."""
    match event:
        case AskToJoin() | Join() | StatusReport():
            return _heard(state, event, now)
        case Gather():
            return _gather(_without_silent(state, now), now)
        case Look():
            return _look(_without_silent(state, now), event, now)
        case Wait():
            return _without_silent(state, now), ()
        case OwnState():
            return state.having(state.members[0].turned(event.state, now)), ()
        case Probed():
            member = state.members[event.number - 1]
            return (state.having(replace(member, problem=event.problem)) if member.state == "missing" else state), ()
        case End():
            return replace(state, order="over", outcome=event.outcome, until=None), ()


def _heard(state: Membership, event: AskToJoin | Join | StatusReport, now: float) -> Next:
    member = _member(state, event.sender)
    if isinstance(member, StudioError):
        return state, (Refuse(member),)
    if isinstance(event, StatusReport):
        return _report(state, member, event, now)
    if state.order != "go":
        return state, (Refuse(StudioError("cluster.run_over", run=state.run)),)
    if isinstance(event, AskToJoin):
        return state, (Reply({"machine": member.number}),)
    return _join(state, replace(member, host=event.host), event, now)


def _member(state: Membership, sender: Sender) -> Member | StudioError:
    """Whose message it is."""
    if isinstance(sender.number, int) and not isinstance(sender.number, bool):
        found = next((each for each in state.others if each.number == sender.number), None)
        if found is None:
            return StudioError("cluster.no_number", number=sender.number, most=len(state.members))
    else:
        found = next((each for each in state.others if each.machine.ip == sender.ip), None)
        if found is None:
            listed = ", ".join(each.machine.address for each in state.others)
            return StudioError("cluster.not_listed", ip=sender.ip, listed=listed)
    token = sender.token
    if len(token) < 8 or (found.state in HERE and not hmac.compare_digest(found.token.encode(), token.encode())):
        return StudioError("cluster.number_taken", machine=found.name)
    return found


def _join(state: Membership, member: Member, event: Join, now: float) -> Next:
    """Take a machine in if it fits."""
    asked = state.members[0].facts
    problem = None
    if found := difference(asked, event.facts):
        name, ours, theirs = found
        what, theirs = what_differs(name), printable(theirs, 64)
        problem = StudioError("cluster.differs", machine=member.name, what=what, ours=ours, theirs=theirs)
    elif event.closed is not None:
        ip = event.sender.ip
        problem = StudioError("cluster.unreachable_from_first", machine=member.name, ip=ip, port=event.closed)
    if problem:
        return state.having(replace(member, problem=problem).turned("refused", now)), (Refuse(problem),)
    facts = {name: printable(event.facts.get(name), 64) for name in asked}
    member = replace(member, token=event.sender.token, facts=facts, heard=now, problem=None, fatal=False)
    reply = {"machine": member.number, "order": "wait", "restarts": state.restarts}
    return state.having(replace(member, admitted=False).turned("joined", now)), (Reply(reply),)


def _report(state: Membership, member: Member, event: StatusReport, now: float) -> Next:
    if not member.token or member.state == "lost":
        return state, (Reply({"order": "join"}),)  # it was away for too long, or the first machine has begun anew
    member = replace(member, heard=now, memory=event.memory)
    if event.state in ("joined", "training", "ended", "gone"):
        member = member.turned(event.state, now)
    if event.state == "gone" and state.order == "go":
        member = replace(member, problem=StudioError("cluster.left", machine=member.name), admitted=False)
    elif event.state == "failed":
        problem = event.problem or StudioError("cluster.broke", machine=member.name)
        member = replace(member, problem=problem, fatal=event.fatal, admitted=False).turned("joined", now)
    elif event.state == "training":
        member = replace(member, problem=None)
    orders: tuple[Order, ...] = ()
    if event.log and member.logged <= LOG:
        member = replace(member, logged=member.logged + len(event.log))
        orders = (KeepLog(member.number, event.log),)
    order = state.order if state.order != "go" or member.admitted else "wait"
    reply = Reply({"order": order, "restarts": state.restarts, "outcome": state.outcome})
    return state.having(member), (*orders, reply)


def _without_silent(state: Membership, now: float) -> Membership:
    """Who has fallen silent is lost."""
    for each in state.others:
        if each.state in HERE and now - (each.heard or 0.0) > SILENT:
            silent = StudioError("cluster.silent", machine=each.name)
            state = state.having(replace(each, problem=silent, admitted=False).turned("lost", now))
    return state


def _gather(state: Membership, now: float) -> Next:
    """Wait until all are here, or enough of them when the time is over."""
    if state.until is None:
        state = replace(state, until=now + state.cluster.join_seconds)
    over = now > (state.until or now)
    if all(each.state == "joined" for each in state.others) or (over and state.too_few <= 0):
        return replace(_with_waiting(state), until=None), (Begin(),)
    if over:
        return state, (Fail(_too_few(state, "cluster.too_few")),)
    if state.probed is None or now - state.probed > _PROBE_EVERY:
        missing = tuple(each for each in state.others if each.state == "missing")
        return replace(state, probed=now), (ProbeMissing(missing),)
    return state, ()


def _look(state: Membership, look: Look, now: float) -> Next:
    """Look after everybody while the training runs."""
    state = state.having(replace(state.members[0], memory=look.memory))
    if look.stop and state.order == "go":
        state = replace(state, order="stop")
    for each in state.others:
        if each.fatal and each.problem:
            return state, (Fail(StudioError("cluster.machine_failed", machine=each.name, problem=each.problem)),)
    orders: tuple[Order, ...] = ()
    if state.running - state.admitted and state.order == "go":
        state, orders = replace(state, restarts=state.restarts + 1), (RestartWorkers(),)
    state = replace(state, running=state.admitted)
    if look.leaving:
        return state, orders
    state = _let_in(state, look)
    if state.too_few <= 0:
        return replace(state, short=None), orders
    state = replace(state, short=now if state.short is None else state.short)
    if now - (state.short or now) >= state.cluster.join_seconds:
        orders += (Fail(_too_few(state, "cluster.too_few_left")),)
    return state, orders


def _let_in(state: Membership, look: Look) -> Membership:
    """Admit who waits outside where no step is lost by it: before the first one, or after the next checkpoint."""
    if not state.waiting or state.order != "go":
        return replace(state, saved=None)
    if look.idle or state.too_few > 0 or (None not in (look.saved, state.saved) and look.saved != state.saved):
        return _with_waiting(state)
    return replace(state, saved=look.saved if state.saved is None else state.saved)


def _with_waiting(state: Membership) -> Membership:
    for each in state.others:
        state = state.having(replace(each, admitted=True)) if each.waits else state
    return replace(state, running=state.admitted, saved=None)


def _too_few(state: Membership, key: str) -> StudioError:
    """That there are too few machines, with each one's reason."""
    reasons = tuple(each.problem for each in state.others if each.problem)
    return StudioError(key, least=state.cluster.least, here=state.cluster.least - state.too_few, reasons=reasons)


def printable(value: Any, most: int) -> str:
    """A short printable text of what somebody sent."""
    return "".join(each for each in value[:most] if each.isprintable()) if isinstance(value, str) else ""
