"""What a process is taken for, by tables of processes as they might be: none is started here."""

from __future__ import annotations

import time
from typing import Any

import pytest

from glmstudio.doctor.stale.stale_processes import SETTLING, RunFacts, classify
from glmstudio.system.process import COOKIE
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
