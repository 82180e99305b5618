"""Sixty real processes in every state that there is, where root runs it also of another user: what each is called, and
that only what was chosen is ended."""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest

from glmstudio.doctor import diagnose, end_stale
from glmstudio.doctor.stale import plain_ranks, stale_processes
from glmstudio.files import write_json
from glmstudio.paths import paths
from glmstudio.system.process import COOKIE, Identity, alive, identify
from glmstudio.system.process_table import JOB, LOADER
from tests.marks import rare, slow
from tests.users import OTHER, PYTHON, become, place_of
from tests.users import reason as no_others
from tests.waiting import until

Spawn = Callable[..., "subprocess.Popen[str]"]
COUNT = 60
EXEC = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
# A process of a made-up training. What has "dies" ends at once; what does not "reap" leaves it a zombie. One that
# is "held" waits inside the kernel (state D), for a child that it started as vfork does.
NODE = """
import ctypes, json, os, signal, sys, time
spec = json.loads(sys.argv[1])
def here(file): open(file + "~", "w").write(str(os.getpid())); os.rename(file + "~", file)
if spec.get("comm"): open("/proc/self/comm", "w").write(spec["comm"])
if spec.get("stubborn"): signal.signal(signal.SIGTERM, signal.SIG_IGN)
for child in spec.get("children", ()):
    if os.fork() == 0:
        if child.get("session"): os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.execve(sys.executable, [sys.executable, "-S", child["program"], json.dumps(child)], {**os.environ, **child.get("env", {})})
if spec.get("reap", True): signal.signal(signal.SIGCHLD, signal.SIG_IGN)
here(spec["ready"])
if spec.get("dies"): os._exit(0)
if spec.get("held") and ctypes.CDLL(None).syscall(spec["held"], 0x4000 | signal.SIGCHLD, 0, 0, 0, 0) == 0: here(spec["ready"] + "-child")
time.sleep(600)
"""


class Scene:
    """Units of processes, each with what every member of it has to be called ("" for a bystander)."""

    def __init__(self, spawn: Spawn, folder: Path, seed: int, other: Path | None) -> None:
        self.other, self.before = other, list[str]()
        self.spawn, self.folder, self.chance = spawn, folder, random.Random(seed)
        self.expected: dict[Identity, str] = {}
        self.unit: dict[Identity, str] = {}
        self.zombies: list[int] = []
        self.jobs: dict[int, str] = {}
        self.over: dict[Identity, int] = {}
        self.labels = 0
        for place in filter(None, (folder, other)):
            for name in ("node.py", "torchrun"):
                (place / name).write_text(NODE)

    def spec(self, *, agent: bool = False, **facts: Any) -> dict[str, Any]:
        self.labels += 1
        program = self.folder / ("torchrun" if agent else "node.py")
        return {"ready": str(self.folder / f"ready-{self.labels}"), "program": str(program), **facts}

    def grow(self, spec: dict[str, Any], **variables: str) -> subprocess.Popen[str]:
        return self.spawn(*self.before, "-S", spec["program"], json.dumps(spec), **variables)

    @contextmanager
    def another_user(self) -> Iterator[None]:
        """What starts meanwhile is somebody else's."""
        assert self.other is not None
        mine, self.folder, self.before = self.folder, self.other, ["-S", "-c", EXEC, *become(OTHER), PYTHON]
        yield
        self.folder, self.before = mine, []

    def pid(self, spec: dict[str, Any], end: str = "") -> int:
        file = Path(spec["ready"] + end)
        until(file.exists)
        return int(file.read_text())

    def identity(self, spec: dict[str, Any], end: str = "") -> Identity:
        found = identify(self.pid(spec, end))
        assert found is not None
        return found

    def expect(self, kind: str, *specs: dict[str, Any]) -> None:
        for spec in specs:
            self.expected[self.identity(spec)] = kind
            if spec.get("held"):
                self.expected[self.identity(spec, "-child")] = kind
                until(lambda spec=spec: psutil.Process(self.pid(spec)).status() == psutil.STATUS_DISK_SLEEP)

    def zombie(self, *specs: dict[str, Any]) -> None:
        for spec in specs:
            pid = self.pid(spec)
            until(lambda pid=pid: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
            self.zombies.append(pid)

    def stop(self, *specs: dict[str, Any]) -> None:
        for spec in specs:
            pid = self.pid(spec)
            os.kill(pid, signal.SIGSTOP)
            until(lambda pid=pid: psutil.Process(pid).status() == psutil.STATUS_STOPPED)

    def workers(self, **facts: Any) -> list[dict[str, Any]]:
        env = {JOB: uuid.uuid4().hex, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
        return [
            self.spec(session=True, env=env | {"RANK": str(rank)}, stubborn=self.chance.random() < 0.2, **facts)
            for rank in range(self.chance.randrange(1, 3))
        ]

    def training(self, workers: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
        spec = self.spec(agent=True, children=workers, comm=self.chance.choice(["", "pt_elastic"]), **facts)
        self.agent = self.grow(spec)
        return spec

    def script(self, ranks: list[dict[str, Any]], name: str = "start.sh") -> subprocess.Popen[str]:
        """A shell script that starts these in the background and waits, as people write them."""
        lines = [
            f"{' '.join(f'{key}={value}' for key, value in rank['env'].items())} {sys.executable} -S {rank['program']} '{json.dumps(rank)}' &"
            for rank in ranks
        ]
        file = self.folder / f"{self.labels}" / name
        file.parent.mkdir()
        file.write_text("\n".join(["#!/usr/bin/env bash", *lines, "wait", ""]))
        file.chmod(0o755)
        return self.spawn("-S", "-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", str(file))

    def ranks(
        self, count: int, of: int | None = None, *, by: str = "", at: str = "127.0.0.1", **facts: Any
    ) -> list[Any]:
        names = {"": ("RANK", "WORLD_SIZE"), "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")}[by]
        env = {"MASTER_ADDR": at, "MASTER_PORT": str(self.chance.randrange(1 << 29))}
        return [
            self.spec(env=env | {names[0]: str(rank), names[1]: str(of or count)}, **facts) for rank in range(count)
        ]


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()


# --- The units -------------------------------------------------------------------------------------------------------


def healthy(scene: Scene) -> None:
    workers = scene.workers()
    agent = scene.training(workers)
    scene.expect("", agent, *workers)
    scene.jobs[scene.pid(agent)] = "healthy"


def held_in_the_kernel(scene: Scene) -> None:
    workers = scene.workers(held=CLONE)
    agent = scene.training(workers)
    gone = scene.chance.random() < 0.5
    scene.expect("", *workers)  # until all of them are there
    if gone:
        end(scene.agent)
    scene.expect("foreign_orphan" if gone else "", *workers)
    if not gone:
        scene.expect("", agent)


def workers_without_agent(scene: Scene) -> None:
    workers = scene.workers()
    scene.training(workers)
    scene.expect("foreign_orphan", *workers)
    end(scene.agent)
    if scene.chance.random() < 0.3:
        scene.stop(*workers)


def loaders_without_their_rank(scene: Scene) -> None:
    loader = scene.spec(comm=LOADER)
    (rank,) = scene.workers(children=[loader])[:1]
    agent = scene.training([rank])
    scene.expect("foreign_loader", loader)
    scene.expect("foreign_idle", agent)
    os.kill(scene.pid(rank), signal.SIGKILL)


def suspended_agent(scene: Scene) -> None:
    workers = scene.workers()
    agent = scene.training(workers)
    scene.expect("foreign_suspended", agent)
    scene.expect("", *workers)
    scene.stop(agent)


def suspended_workers(scene: Scene) -> None:
    workers = scene.workers()
    agent = scene.training(workers)
    scene.expect("", agent)
    scene.expect("foreign_suspended", *workers)
    scene.stop(*workers)


def all_suspended(scene: Scene) -> None:
    workers = scene.workers()
    agent = scene.training(workers)
    scene.expect("foreign_suspended", agent, *workers)
    scene.stop(*workers, agent)


def agent_without_workers(scene: Scene) -> None:
    workers = scene.workers(dies=True)
    agent = scene.training(workers)
    scene.expect("foreign_idle", agent)
    scene.over[scene.identity(agent)] = 0
    scene.jobs[scene.pid(agent)] = "idle"


def agent_with_zombies(scene: Scene) -> None:
    workers = scene.workers(dies=True)
    agent = scene.training(workers, reap=False)
    scene.zombie(*workers)
    stopped = scene.chance.random() < 0.5
    if stopped:
        scene.stop(agent)
    scene.expect("foreign_suspended" if stopped else "foreign_idle", agent)
    scene.over[scene.identity(agent)] = len(workers)


def agent_with_a_zombie_and_a_worker(scene: Scene) -> None:
    dead, worker = scene.workers(dies=True)[0], scene.workers()[0]
    agent = scene.training([dead, worker], reap=False)
    scene.zombie(dead)
    scene.expect("", agent, worker)


def dead_agent(scene: Scene) -> None:
    """A torchrun that has ended and whose parent does not care."""
    agent = scene.spec(agent=True, comm="pt_elastic", dies=True)
    parent = scene.spec(children=[agent], reap=False)
    scene.grow(parent)
    scene.zombie(agent)
    scene.expect("", parent)


def own_script(scene: Scene) -> None:
    ranks = scene.ranks(2)
    script = scene.script(ranks)
    scene.expect("", *ranks)
    scene.jobs[scene.pid(ranks[0])] = "plain"
    if scene.chance.random() < 0.5:
        end(script)  # they go on, as those started with nohup do


def own_script_suspended(scene: Scene) -> None:
    ranks = scene.ranks(2)
    scene.script(ranks)
    scene.expect("foreign_suspended", *ranks)
    scene.jobs[scene.pid(ranks[0])] = "suspended"
    scene.stop(*ranks)


def own_script_that_cannot_go_on(scene: Scene) -> None:
    ranks = scene.ranks(3, at=scene.chance.choice(["127.0.0.1", "localhost", "::1"]))
    script = scene.script(ranks)
    scene.expect("foreign_rank", *ranks[1:])
    gone = scene.pid(ranks[0])
    end(script)
    os.kill(gone, signal.SIGKILL)


def own_script_on_several_machines(scene: Scene) -> None:
    ranks = scene.ranks(1, of=2, at="10.0.0.1")
    script = scene.script(ranks)
    scene.expect("", *ranks)
    end(script)


def mpirun(scene: Scene) -> None:
    ranks = scene.ranks(2, by="mpi")
    launcher = scene.script(ranks, "mpirun")
    gone = scene.chance.random() < 0.5
    scene.expect("foreign_orphan" if gone else "", *ranks)
    if gone:
        end(launcher)


def run_of_the_studio(scene: Scene) -> None:
    run_id, kind = uuid.uuid4().hex, scene.chance.choice(["ours_orphan", "ours_suspended", ""])
    spec = scene.spec(stubborn=scene.chance.random() < 0.3)
    scene.grow(spec, **{COOKIE: run_id, JOB: "ours"})
    me = scene.identity(spec)
    owner = Identity(me.boot_id, me.pid, me.started - 1) if kind == "ours_orphan" else me
    folder = paths().runs / f"run-{run_id[:6]}"
    write_json(folder / "run.json", {"run_id": run_id, "supervisor": owner.to_json()})
    write_json(folder / "status.json", {"state": "running"})
    if kind == "ours_suspended":
        scene.stop(spec)
    scene.expect(kind, spec)


def bystanders(scene: Scene) -> None:
    dead = scene.spec(dies=True)
    plain = scene.spec(children=[dead], reap=False)
    scene.grow(plain)
    scene.zombie(dead)
    scene.expect("", plain)
    if scene.chance.random() < 0.5:
        scene.stop(plain)


def adopted_bystander(scene: Scene) -> None:
    child = scene.spec(session=True)
    parent = scene.grow(scene.spec(children=[child]))
    scene.expect("", child)
    end(parent)


def another_program_with_the_variables(scene: Scene) -> None:
    values = {JOB: "x", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}
    child = scene.spawn("-S", "-c", "import os; print(flush=True); os.execvp('sleep', ['sleep', '600'])", **values)
    assert child.stdout is not None
    child.stdout.readline()
    found = identify(child.pid)
    assert found is not None
    scene.expected[found] = ""


def of_another_user(scene: Scene) -> None:
    """None of it is this user's business, not even for root, whatever has become of it."""
    seen, jobs, over = set(scene.expected), dict(scene.jobs), dict(scene.over)
    with scene.another_user():
        scene.chance.choice(OF_OTHERS)(scene)
    theirs = scene.expected.keys() - seen
    assert {psutil.Process(each.pid).uids().real for each in theirs} == {OTHER}
    scene.expected |= dict.fromkeys(theirs, "")
    scene.jobs, scene.over = jobs, over


OF_OTHERS = [healthy, workers_without_agent, suspended_workers, agent_without_workers, agent_with_zombies]
UNITS = [
    healthy, workers_without_agent, loaders_without_their_rank, suspended_agent, suspended_workers, all_suspended,
    agent_without_workers, agent_with_zombies, agent_with_a_zombie_and_a_worker, dead_agent, own_script,
    own_script_suspended, own_script_that_cannot_go_on, own_script_on_several_machines, mpirun, run_of_the_studio,
    bystanders, adopted_bystander, another_program_with_the_variables, *([held_in_the_kernel] if CLONE else []),
    *([] if no_others else [of_another_user]),
]  # fmt: skip


@pytest.fixture
def others_place() -> Iterator[Path | None]:
    """A folder of another user, where there can be one."""
    with nullcontext() if no_others else place_of(OTHER) as folder:
        yield folder


@pytest.mark.parametrize("seed", [slow(0), slow(1), *map(rare, range(2, 30))])
def test_sixty_processes_have_their_verdicts_and_only_the_chosen_end(
    seed: int, home: Path, spawn: Spawn, tmp_path: Path, others_place: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_ranks, "GATHERING", 0.0)  # all of them are there before anybody looks
    monkeypatch.setattr(stale_processes, "SETTLING", 0.0)
    scene = Scene(spawn, tmp_path, seed, others_place)
    order = scene.chance.sample(UNITS, len(UNITS))
    while order or len(scene.expected) + len(scene.zombies) < COUNT:
        unit = order.pop() if order else scene.chance.choice(UNITS)
        unit(scene)
        scene.unit |= dict.fromkeys(scene.expected.keys() - scene.unit.keys(), unit.__name__)
    until(lambda: all(alive(each) for each in scene.expected))

    report = diagnose(only=["proc"])
    listed = {each.identity: each for each in report.stale}
    wrong = {
        (scene.unit[each], each.pid, kind, listed[each].kind if each in listed else "")
        for each, kind in scene.expected.items()
        if (listed[each].kind if each in listed else "") != kind
    }
    assert wrong == set()
    assert {each.identity.pid for each in report.stale}.isdisjoint(scene.zombies)
    assert {job.pid for job in report.jobs}.isdisjoint(scene.zombies)
    jobs = {job.pid: job.kind for job in report.jobs}
    assert {pid: jobs.get(pid) for pid in scene.jobs} == scene.jobs
    assert {each: listed[each].over for each in scene.over} == scene.over
    ticked = {each for each, process in listed.items() if process.ticked and each in scene.expected}
    assert ticked == {each for each, kind in scene.expected.items() if kind == "ours_orphan"}

    mine = [each for each in listed if each in scene.expected]
    chosen = set(scene.chance.sample(mine, len(mine) * 2 // 3))
    results = end_stale([listed[each].token for each in chosen], polite=0.1)
    assert {result.outcome for result in results} == {"ended"}
    assert [each for each in chosen if alive(each)] == []
    assert [each for each in scene.expected if each not in chosen and not alive(each)] == []
