"""Who takes part in a run of several machines: what follows from each event, by a table of cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from glmstudio.cluster.member import Member
from glmstudio.cluster.membership import SILENT, Membership, step
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
from glmstudio.rundir.machines import Cluster, Machine

NOW = 1000.0
FACTS = {"program": "1", "data": "d"}
TOKEN = {2: "b" * 32, 3: "c" * 32}
CLUSTER = Cluster(tuple(Machine(f"m{n}", 1, f"10.0.0.{n}") for n in (1, 2, 3)), least=2, join_seconds=60)
PROBLEM = StudioError("cluster.broke", machine="2")


def sender(number: int = 2, **other: Any) -> Sender:
    return replace(Sender(f"10.0.0.{number}", number, TOKEN.get(number, "x" * 32)), **other)


def machines(two: str = "missing", three: str = "missing", **state: Any) -> Membership:
    """A state, from a word for each of the others; `joined+`, `training+`: admitted. All were heard just now."""
    members = [Member(1, CLUSTER.machines[0], "training", facts=FACTS)]
    for number, word in ((2, two), (3, three)):
        name, admitted, _ = word.partition("+")
        token = TOKEN[number] if name not in ("missing", "refused") else ""
        members.append(
            Member(number, CLUSTER.machines[number - 1], name, heard=NOW, token=token, admitted=bool(admitted))
        )
    found = Membership("run", CLUSTER, tuple(members))
    return replace(found, **{"running": found.admitted, **state})


def words(state: Membership) -> tuple[str, ...]:
    return tuple(each.state + "+" * each.admitted for each in state.others)


def known(order: Any) -> Any:
    """An order, with the key of its problem in the place of all its values."""
    return (type(order), order.problem.key) if isinstance(order, Fail | Refuse) else order


def reply(order: str, restarts: int = 0, outcome: str = "") -> Reply:
    return Reply({"order": order, "restarts": restarts, "outcome": outcome})


TAKEN_IN = Reply({"machine": 2, "order": "wait", "restarts": 0})
CASES: dict[str, tuple[Membership, Event, tuple[str, str], list[Any]]] = {
    # Joining
    "asks": (machines(), AskToJoin(sender()), ("missing", "missing"), [Reply({"machine": 2})]),
    "asks by its address": (machines(), AskToJoin(Sender("10.0.0.3", None, TOKEN[3])), ("missing", "missing"), [Reply({"machine": 3})]),
    "is not listed": (machines(), AskToJoin(Sender("10.0.0.9", None, "x" * 32)), ("missing", "missing"), [(Refuse, "cluster.not_listed")]),
    "is the first one": (machines(), AskToJoin(sender(1)), ("missing", "missing"), [(Refuse, "cluster.no_number")]),
    "has a weak token": (machines(), AskToJoin(sender(token="short")), ("missing", "missing"), [(Refuse, "cluster.number_taken")]),
    "another has its number": (machines("joined"), AskToJoin(sender(token="z" * 32)), ("joined", "missing"), [(Refuse, "cluster.number_taken")]),
    "takes the number of a lost one": (machines("lost"), AskToJoin(sender(token="z" * 32)), ("lost", "missing"), [Reply({"machine": 2})]),
    "asks once it is over": (machines(order="over"), AskToJoin(sender()), ("missing", "missing"), [(Refuse, "cluster.run_over")]),
    "joins": (machines(), Join(sender(), "h", FACTS), ("joined", "missing"), [TAKEN_IN]),
    "differs": (machines(), Join(sender(), "h", FACTS | {"data": "e"}), ("refused", "missing"), [(Refuse, "cluster.differs")]),
    "tells no facts": (machines(), Join(sender(), "h", {}), ("refused", "missing"), [(Refuse, "cluster.differs")]),
    "cannot be reached": (machines(), Join(sender(), "h", FACTS, "5"), ("refused", "missing"), [(Refuse, "cluster.unreachable_from_first")]),
    "joins again": (machines("training+"), Join(sender(), "h", FACTS), ("joined", "missing"), [TAKEN_IN]),
    # Reports
    "waits": (machines("joined"), StatusReport(sender(), "joined"), ("joined", "missing"), [reply("wait")]),
    "may go": (machines("joined+"), StatusReport(sender(), "training"), ("training+", "missing"), [reply("go")]),
    "was lost": (machines("lost"), StatusReport(sender(), "training"), ("lost", "missing"), [Reply({"order": "join"})]),
    "is unknown": (machines(), StatusReport(sender(), "training"), ("missing", "missing"), [Reply({"order": "join"})]),
    "leaves": (machines("training+"), StatusReport(sender(), "gone"), ("gone", "missing"), [reply("wait")]),
    "leaves at the end": (machines("training+", order="over", outcome="finished"), StatusReport(sender(), "gone"), ("gone+", "missing"), [reply("over", 0, "finished")]),
    "fails": (machines("training+"), StatusReport(sender(), "failed", PROBLEM), ("joined", "missing"), [reply("wait")]),
    "is told to stop": (machines("training+", order="stop"), StatusReport(sender(), "training"), ("training+", "missing"), [reply("stop")]),
    "says nonsense": (machines("training+"), StatusReport(sender(), "../x"), ("training+", "missing"), [reply("go")]),
    "has printed": (machines("joined"), StatusReport(sender(), "joined", log=b"x"), ("joined", "missing"), [KeepLog(2, b"x"), reply("wait")]),
    # Gathering
    "all are here": (machines("joined", "joined"), Gather(), ("joined+", "joined+"), [Begin()]),
    "one is missing": (machines("joined", until=NOW + 1), Gather(), ("joined", "missing"), [ProbeMissing(machines().members[2:])]),
    "one is missing, asked just now": (machines("joined", until=NOW + 1, probed=NOW - 1), Gather(), ("joined", "missing"), []),
    "enough when the time is over": (machines("joined", until=NOW - 1), Gather(), ("joined+", "missing"), [Begin()]),
    "too few when the time is over": (machines(until=NOW - 1), Gather(), ("missing", "missing"), [(Fail, "cluster.too_few")]),
    # The training
    "nothing new": (machines("training+", "training+"), Look(), ("training+", "training+"), []),
    "one has gone": (machines("training+", "gone", running=frozenset({2, 3})), Look(), ("training+", "gone"), [RestartWorkers()]),
    "one has gone at the end": (machines("training+", "gone", running=frozenset({2, 3}), order="stop"), Look(), ("training+", "gone"), []),
    "one waits for a checkpoint": (machines("training+", "joined", saved=5), Look(saved=5), ("training+", "joined"), []),
    "one waits, and nobody knew since when": (machines("training+", "joined"), Look(saved=5), ("training+", "joined"), []),
    "one enters after a checkpoint": (machines("training+", "joined", saved=5), Look(saved=10), ("training+", "joined+"), []),
    "one enters while nothing runs": (machines("training+", "joined", saved=5), Look(saved=5, idle=True), ("training+", "joined+"), []),
    "nobody enters at the end": (machines("training+", "joined"), Look(idle=True, leaving=True), ("training+", "joined"), []),
    "nobody enters while it stops": (machines("training+", "joined"), Look(idle=True, stop=True), ("training+", "joined"), []),
    "too few for a while": (machines(short=NOW - 59), Look(), ("missing", "missing"), []),
    "too few for too long": (machines(short=NOW - 60), Look(), ("missing", "missing"), [(Fail, "cluster.too_few_left")]),
    "too few while it ends": (machines(short=NOW - 60), Look(leaving=True), ("missing", "missing"), []),
    # The rest
    "seen": (machines(), Probed(2, PROBLEM), ("missing", "missing"), []),
    "the first one begins": (machines(), OwnState("training"), ("missing", "missing"), []),
    "others leave": (machines("ended"), Wait(), ("ended", "missing"), []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_follows(name: str) -> None:
    before, event, after, orders = CASES[name]
    state, found = step(before, event, NOW)
    assert (words(state), [known(order) for order in found]) == (after, orders)


@pytest.mark.parametrize("event", [Gather(), Look(), Wait()])
def test_who_falls_silent_is_lost(event: Event) -> None:
    before = machines("training+", "joined", until=NOW + 60)
    state, _ = step(before, event, NOW + SILENT)
    assert words(state) == ("training+", "joined")
    state, orders = step(before, event, NOW + SILENT + 1)
    assert words(state) == ("lost", "lost")
    assert state.members[1].since == NOW + SILENT + 1
    assert (RestartWorkers() in orders) == isinstance(event, Look)
    problem = state.members[1].problem
    assert problem is not None
    assert problem.key == "cluster.silent"


def test_a_fatal_problem_ends_the_run() -> None:
    state, _ = step(machines("training+"), StatusReport(sender(), "failed", PROBLEM, fatal=True), NOW)
    _, orders = step(state, Look(), NOW)
    assert [known(order) for order in orders] == [(Fail, "cluster.machine_failed")]
    state, _ = step(machines("training+"), StatusReport(sender(), "failed", PROBLEM), NOW)
    _, orders = step(state, Look(), NOW)
    assert orders == (RestartWorkers(),)


def test_the_wait_begins_with_the_first_look_and_ends_with_the_start() -> None:
    state, _ = step(machines("joined"), Gather(), NOW)
    assert (state.until, state.probed) == (NOW + 60, NOW)
    state, _ = step(state, Join(sender(3), "", FACTS), NOW)
    state, orders = step(state, Gather(), NOW + 1)
    assert (orders, state.until, state.running) == ((Begin(),), None, {2, 3})


def test_who_comes_back_is_admitted_after_the_next_checkpoint_only() -> None:
    state = machines("training+", "joined")
    state, _ = step(state, Look(saved=200), NOW)
    assert (words(state), state.saved) == (("training+", "joined"), 200)
    state, _ = step(state, Look(saved=300), NOW)
    assert (words(state), state.saved, state.running) == (("training+", "joined+"), None, {2, 3})


def test_a_problem_is_forgotten_once_it_trains_or_joins() -> None:
    seen, _ = step(machines(), Probed(2, PROBLEM), NOW)
    assert seen.members[1].problem == PROBLEM
    state, _ = step(seen, Join(sender(), "", FACTS), NOW)
    assert state.members[1].problem is None
    late, _ = step(state, Probed(2, PROBLEM), NOW)
    assert late == state, "what was seen before it joined"


def test_the_end_is_told() -> None:
    state, _ = step(machines("training+", until=NOW), End("stopped"), NOW)
    assert (state.order, state.outcome, state.until) == ("over", "stopped", None)


def test_what_the_file_says_is_by_the_calendar() -> None:
    told = step(machines("joined", until=NOW + 5), OwnState("gone"), NOW)[0].to_json(1e9)
    assert told["until"] == 1e9 + NOW + 5
    first, second, _ = told["machines"]
    assert (first["state"], first["since"], first["heard"]) == ("gone", 1e9 + NOW, None)
    assert (second["state"], second["heard"]) == ("joined", 1e9 + NOW)
