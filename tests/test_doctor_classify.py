"""What a process is taken for, by tables of processes as they might be: none is started here."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from glmstudio.doctor import StaleProcess
from glmstudio.doctor.stale import stale_checks, stale_processes
from glmstudio.doctor.stale.stale_processes import SETTLING, RunFacts, classify
from glmstudio.system.process import COOKIE, Identity
from glmstudio.system.process_table import JOB, LOADER, ProcessInfo, ProcessTable

# Numbers that no process of this machine has, in the order in which they were started.
LAUNCHER, RANK, HELPER, OTHER = (5_000_000 + number for number in range(4))
WORKER = {JOB: "job", "RANK": "0", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "0"}
TORCHRUN = ("python", "/venv/bin/torchrun", "train.py")


def process(pid: int, parent: int, *argv: str, age: float = 60, **more: Any) -> ProcessInfo:
    more = {"name": argv[0], "variables": {}} | more
    created = time.time() - age + (pid - LAUNCHER) / 1000
    return ProcessInfo(pid=pid, parent=parent, argv=argv, user="me", mine=True, created=created, cpu_s=0.0, **more)


def rank(parent: int = LAUNCHER, **more: Any) -> ProcessInfo:
    return process(RANK, parent, "python", "train.py", **{"variables": WORKER} | more)


def kinds(*processes: ProcessInfo, runs: dict[str, RunFacts] | None = None) -> dict[int, str]:
    """The kind of each that is one."""
    table = ProcessTable({each.pid: each for each in (process(1, 0, "systemd"), *processes)})
    found = {each.pid: classify(each, table, runs or {}) for each in processes}
    return {pid: kind for pid, kind in found.items() if kind}


@pytest.mark.parametrize(
    "argv",
    [
        TORCHRUN, ("python", "/venv/bin/accelerate", "launch", "train.py"), ("python", "/venv/bin/deepspeed", "train.py"),
        ("python", "-um", "deepspeed.launcher.launch"), ("python", "mine/start_training.py"), ("python", "-c", "import subprocess"),
    ],
)  # fmt: skip
def test_a_worker_is_an_orphan_only_once_its_launcher_is_gone(argv: tuple[str, ...]) -> None:
    assert kinds(process(LAUNCHER, 1, *argv), rank()) == {}
    assert kinds(rank(parent=1)) == {RANK: "foreign_orphan"}


def test_whoever_adopts_an_orphan_it_is_one() -> None:
    assert kinds(process(LAUNCHER, 1, "systemd", "--user"), rank()) == {RANK: "foreign_orphan"}


def test_a_worker_of_deepspeed_has_no_job_id_and_is_known_all_the_same() -> None:
    assert kinds(rank(parent=1, variables={"CROSS_RANK": "0", "RANK": "1"})) == {RANK: "foreign_orphan"}


def test_variables_of_a_training_make_no_shell_and_nothing_in_a_terminal_a_part_of_it() -> None:
    assert kinds(process(OTHER, 1, "bash", variables=WORKER)) == {}
    shell = process(LAUNCHER, 1, "bash", variables=WORKER, in_terminal=True)
    assert kinds(shell, rank(in_terminal=True)) == {}
    assert kinds(shell, rank(in_terminal=False)) == {RANK: "foreign_orphan"}


def test_what_a_healthy_worker_let_go_of_belongs_to_it_and_what_was_there_before_does_not() -> None:
    launcher, helper = process(LAUNCHER, 1, *TORCHRUN), process(HELPER, 1, "python", "log.py", variables=WORKER)
    assert kinds(launcher, rank(), helper) == {}
    yesterday = process(HELPER, 1, "python", "log.py", variables=WORKER, age=86_400)
    assert kinds(launcher, rank(), yesterday) == {HELPER: "foreign_orphan"}
    assert kinds(rank(parent=1), helper) == {RANK: "foreign_orphan", HELPER: "foreign_orphan"}


@pytest.mark.parametrize(
    ("parent", "job", "age", "kind"),
    [
        (RANK, True, 60, ""), (1, True, 0, "foreign_loader"), (1, False, 0, ""), (1, False, SETTLING + 9, "foreign_loader"),
    ],
)  # fmt: skip
def test_a_loader_belongs_to_the_python_that_feeds_on_it(parent: int, job: bool, age: float, kind: str) -> None:
    loader = process(HELPER, parent, "python", name=LOADER, variables=WORKER if job else {}, age=age)
    found = kinds(process(LAUNCHER, 1, *TORCHRUN), rank(), loader)
    assert found == ({HELPER: kind} if kind else {})


def test_only_a_training_that_stands_still_is_suspended() -> None:
    launcher = process(LAUNCHER, 1, *TORCHRUN, stopped=True)
    assert kinds(launcher, rank()) == {LAUNCHER: "foreign_suspended"}
    assert kinds(process(LAUNCHER, 1, *TORCHRUN), rank(stopped=True)) == {RANK: "foreign_suspended"}
    assert kinds(rank(parent=1, stopped=True)) == {RANK: "foreign_orphan"}
    assert kinds(process(OTHER, 1, "python", "game.py", stopped=True), process(HELPER, 1, "vim", stopped=True)) == {}


@pytest.mark.parametrize(
    ("kind", "stopped", "found"), [("", False, ""), ("", True, "ours_suspended"), ("ours_orphan", True, "ours_orphan")]
)
def test_what_carries_the_id_of_a_run_is_what_the_run_says(kind: str, stopped: bool, found: str) -> None:
    part = rank(parent=1, variables={**WORKER, COOKIE: "id"}, stopped=stopped)
    assert kinds(part, runs={"id": RunFacts("mine", kind)}) == ({RANK: found} if found else {})


# --- Without torchrun ------------------------------------------------------------------------------------------------

PLAIN = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
MPI = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


@pytest.mark.parametrize(
    ("parent", "variables", "age", "kind"),
    [
        ("bash", PLAIN, 999, ""),  # its script is still there
        ("sshd", PLAIN, 999, ""),
        ("systemd", PLAIN, 999, "foreign_rank"),
        ("", PLAIN, 999, "foreign_rank"),
        ("", PLAIN, 1, ""),  # the other may still be started
        ("", {**PLAIN, "WORLD_SIZE": "1"}, 999, ""),  # nobody is missing: started with nohup
        ("", {**PLAIN, "MASTER_ADDR": "node1"}, 999, ""),  # the other may be on another machine
        ("", {**PLAIN, "RANK": "x"}, 999, ""),
        ("", {**PLAIN, "WORLD_SIZE": "9" * 5000}, 999, ""),
        ("", {"RANK": "0", "WORLD_SIZE": "2"}, 999, ""),
        ("", {**MPI, "OMPI_COMM_WORLD_SIZE": "1"}, 1, "foreign_orphan"),  # mpirun never leaves before its workers
        ("mpirun", MPI, 999, ""),
    ],
)
def test_a_worker_without_torchrun_is_left_behind_only_where_that_is_proven(
    parent: str, variables: dict[str, str], age: float, kind: str
) -> None:
    above = [process(LAUNCHER, 1, parent)] if parent else []
    worker = rank(parent=LAUNCHER if parent else 1, variables=variables, age=age)
    assert kinds(*above, worker) == ({RANK: kind} if kind else {})


def test_while_all_its_workers_are_there_a_training_without_torchrun_goes_on() -> None:
    one = rank(parent=1, variables=PLAIN, age=999)
    other = process(OTHER, 1, "python", "train.py", variables={**PLAIN, "RANK": "1"}, age=999)
    assert kinds(one, other) == {}
    assert kinds(one, replace(other, dead=True, variables={})) == {RANK: "foreign_rank"}
    assert kinds(one, replace(other, variables={**PLAIN, "RANK": "1", "MASTER_PORT": "1"})).keys() == {RANK, OTHER}
    assert kinds(one, replace(other, name=LOADER, parent=RANK)).keys() == {RANK, OTHER}, "a loader is no worker"


def test_what_a_whole_container_has_in_its_environment_makes_no_worker() -> None:
    """As Kubernetes' PyTorchJob sets it: what process 1 was given, everything has."""
    first = process(1, 0, "sh", variables=PLAIN)
    tables = [rank(parent=1, variables=PLAIN, age=999, stopped=stopped) for stopped in (False, True)]
    for worker in tables:
        table = ProcessTable({1: first, RANK: worker})
        assert (classify(worker, table, {}), table.is_of_a_training(worker)) == ("", False)


def test_a_prompt_of_python_is_no_worker_and_a_suspended_script_is_one() -> None:
    shell = process(LAUNCHER, 1, "bash", in_terminal=True)
    facts = {"variables": PLAIN, "in_terminal": True, "stopped": True}
    assert kinds(shell, process(RANK, LAUNCHER, "python", **facts)) == {}
    assert kinds(shell, rank(**facts)) == {RANK: "foreign_suspended"}


# --- Launchers without workers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"age": 999}, "foreign_idle"),
        ({"age": 10}, ""),  # it loads PyTorch
        ({"age": 999, "stopped": True}, "foreign_suspended"),
        ({"age": 999, "dead": True}, ""),
        ({"age": 999, "variables": {COOKIE: "of another home"}}, ""),
    ],
)
def test_a_launcher_without_workers_is_one_only_after_a_while(facts: dict[str, Any], kind: str) -> None:
    launcher = process(LAUNCHER, 1, *TORCHRUN, **facts)
    assert kinds(launcher) == ({LAUNCHER: kind} if kind else {})
    assert LAUNCHER not in kinds(replace(launcher, stopped=False), rank()), "a worker is there"


@pytest.mark.parametrize(("since", "kind"), [(1.0, ""), (SETTLING + 9, "foreign_idle"), (None, "foreign_idle")])
def test_workers_that_ended_just_now_are_still_heard_of(
    since: float | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale_processes, "paused_s", lambda pid: since)
    launcher, dead = process(LAUNCHER, 1, *TORCHRUN, age=999), rank(variables={}, dead=True)
    assert kinds(launcher, dead) == ({LAUNCHER: kind} if kind else {})


@pytest.mark.parametrize(
    ("kind", "values", "more", "en", "zh"),
    [
        ("foreign_idle", {}, {"over": 2}, "All its workers have ended: 2.", "它的训练进程已全部结束：2 个。"),
        (
            "foreign_rank", {"rank": 1, "meeting": "localhost:29500", "gone": "0, 2"}, {},
            "neither are these of its workers: 0, 2.", "编号为 0, 2 的训练进程也已不在",
        ),
        (
            "foreign_suspended", {"rank": 1, "meeting": "localhost:29500", "gone": ""}, {"in_terminal": True},
            "it is worker 1 at localhost:29500", "它是 localhost:29500 的 1 号训练进程",
        ),
    ],
)  # fmt: skip
def test_each_is_named_for_what_it_is(
    kind: str, values: dict[str, Any], more: dict[str, Any], en: str, zh: str
) -> None:
    left = StaleProcess("", Identity("", 5, 5), kind, "", 0.0, values={"folder": "/x"} | values, **more)
    assert en in left.why("en")
    assert zh in left.why("zh")
    if more.get("in_terminal"):
        assert "`fg` in its terminal continues it." in left.why("en")


def test_a_launcher_without_workers_is_a_note_with_the_choices() -> None:
    launcher = StaleProcess("", Identity("", 5, 5), "foreign_idle", "", 0.0, values={"folder": "/x"})
    result = stale_checks.idle(SimpleNamespace(ask_with_probes=lambda _: (launcher,)))  # type: ignore[arg-type]
    assert result is not None
    result = replace(result, id="proc.idle")
    assert (result.status, result.action, result.is_finding) == ("info", "proc.end", True)
    assert "`python launcher.py doctor --end 5`" in result.fix("en")
    assert "leave it alone" in result.fix("en")
