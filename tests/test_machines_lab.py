"""Several computers train one run, each with its own network, name, processes and disk (namespaces); real torchrun."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glmstudio.cluster.view import MachineView, read_cluster
from glmstudio.rundir.checkpoints import latest, verify
from glmstudio.rundir.run import Run
from tests.hosts import ROOT, Host, Lab, run_of
from tests.run_helpers import PRESET, SMALL, losses, small_data
from tests.waiting import until

OVER = ("finished", "failed", "stopped")
PLAIN = {"accumulation": 4, "prefix_dropout": 0}  # without dropout, steps do not depend on who makes them


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Any]:
    made: list[Lab] = []

    def make(count: int) -> list[Host]:
        made.append(Lab(tmp_path / "lab", count))
        return made[0].computers

    yield make
    for each in made:
        each.down()


def settings(**changes: Any) -> list[str]:
    return [word for name, value in (SMALL | PLAIN | changes).items() for word in ("--set", f"{name}={value}")]


def start(first: Host, *more: str, machines: int = 2, **changes: Any) -> Run:
    """Start a run on the first computer."""
    listed = ",".join(f"10.77.0.{number}" for number in range(1, machines + 1))
    data = str(small_data(first.lab.folder))
    first.call("train", PRESET, "--data", data, "--name", "run", *settings(**changes), "--machines", listed, *more)
    return run_of(first)


def code(run: Run) -> str:
    return (run.path / "join.code").read_text().strip()


def join(host: Host, run: Run, *more: str, **how: Any) -> subprocess.Popen[str]:
    return host.studio("join", "10.77.0.1", "--code", code(run), *more, **how)


def status(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.path / "status.json").read_text())
    return found


def step(run: Run) -> int:
    try:
        return max((row for row, _ in losses(run)), default=0)
    except (OSError, ValueError):
        return 0


def machine(run: Run, number: int) -> MachineView:
    view = read_cluster(run)
    assert view is not None
    return view.machines[number - 1]


def is_in(run: Run, number: int, state: str, seconds: float = 60) -> MachineView:
    until(lambda: machine(run, number).state == state, seconds, lambda: (machine(run, number), tail(run)))
    return machine(run, number)


def makes_step(run: Run, wanted: int, seconds: float = 90) -> None:
    until(lambda: step(run) >= wanted, seconds, lambda: (step(run), status(run), read_cluster(run), tail(run)))


def ends(run: Run, *hosts: Host, seconds: float = 90) -> dict[str, Any]:
    """How the run ended; nothing of it is left on any computer."""
    until(lambda: status(run)["state"] in OVER, seconds, lambda: (step(run), read_cluster(run), tail(run)))
    until(lambda: not any(host.processes() for host in hosts), 15, lambda: [host.processes() for host in hosts])
    return status(run)


def tail(run: Run) -> str:
    return (run.path / "train.log").read_text()[-3000:]


def text(child: subprocess.Popen[str]) -> str:
    return child.communicate(timeout=120)[0]


def world(run: Run) -> int:
    """How many processes train it, as the trainer noted at its newest start."""
    return int(json.loads((run.path / "environment.json").read_text())["processes"])


def trains(host: Host) -> bool:
    return any("glmstudio.train" in line for _, line in host.processes())


def spawns_python(folder: Path) -> Path:
    """A folder in which `python launcher.py` is the studio: how the launcher sets it up is tested elsewhere."""
    (folder / "bin").mkdir()
    program = folder / "bin/python"
    program.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -m glmstudio "$@"\n')
    program.chmod(0o755)
    return program.parent


@pytest.mark.rare
@pytest.mark.slow
def test_two_machines_learn_what_one_does(lab: Any) -> None:
    """By the script that the studio writes, from the result of another run: 35 s."""
    one, two = lab(2)
    data = ["--data", str(small_data(one.lab.folder))]
    one.call("train", PRESET, "--name", "before", *settings(steps=2), *data, "--follow")
    alone = [*settings(steps=8, warm_start="before"), *data]
    one.call("train", PRESET, "--name", "alone", *alone, "--follow")
    script = one.lab.folder / "run.sh"
    machines = ["--machines", "10.77.0.1*2,node2", "--name", "run"]
    script.write_text(one.call("train", PRESET, *alone, *machines, "--script", "shell"))
    path = f"{spawns_python(one.lab.folder)}:{os.environ['PATH']}"
    first, second = (host.run("bash", str(script), str(host.number), PATH=path) for host in (one, two))
    run = run_of(one)
    assert text(second).splitlines()[-1] == "The run is over: finished. Nothing of it is left on this machine."
    assert "finished" in text(first)
    assert first.returncode == second.returncode == 0
    assert ends(run, one, two)["state"] == "finished"
    assert world(run) == 3
    apart = [abs(a - b) for (_, a), (_, b) in zip(losses(run), losses(run_of(one, "alone")), strict=True)]
    assert len(apart) == 8
    assert max(apart) < 1e-5, apart
    assert machine(run, 2).state == "gone"
    assert (run.path / "machines/2/train.log").exists()


@pytest.mark.rare
def test_machines_that_come_late_vanish_and_come_back(lab: Any) -> None:
    """A late one, a cable pulled and plugged in, a joiner killed, a stop: 135 s."""
    one, two, three = lab(3)
    run = start(
        one, "--least", "2", "--join-seconds", "30", machines=3, steps=100_000, save_every=20, keep_checkpoints=1
    )
    join(two, run)
    is_in(run, 2, "joined")
    assert machine(run, 3).problem.key == "cluster.not_begun"  # type: ignore[union-attr]
    makes_step(run, 5, 120)  # two are enough once the time is over
    assert world(run) == 2
    third = join(three, run)
    until(lambda: world(run) == 3, 60, lambda: (read_cluster(run), tail(run)))
    assert trains(three)
    makes_step(run, step(run) + 5)
    three.cable(plugged=False)
    is_in(run, 3, "lost", 20)
    until(lambda: not trains(three), 30)  # what is cut off ends its own part
    until(lambda: world(run) == 2, 60, lambda: (read_cluster(run), tail(run)))
    makes_step(run, step(run) + 5)
    three.cable(plugged=True)
    until(lambda: world(run) == 3, 60, lambda: (read_cluster(run), tail(run)))
    makes_step(run, step(run) + 5)
    three.kill("glmstudio join")
    until(lambda: not three.processes(), 5, three.processes)
    until(lambda: world(run) == 2, 60, lambda: (read_cluster(run), tail(run)))
    makes_step(run, step(run) + 5)
    said = one.call("runs", "stop", "run")
    assert ends(run, one, two, three)["state"] == "stopped"
    assert "Of its 3 machines, 3 (node3) did not answer" in said
    assert third.wait() != 0
    steps = [number for number, _ in losses(run)]
    assert steps == list(range(1, len(steps) + 1))  # nothing is missing, nothing stands twice
    assert machine(run, 2).state == "gone"


@pytest.mark.rare
def test_a_killed_torchrun_comes_back_and_without_the_first_machine_all_ends(lab: Any) -> None:
    """35 s."""
    one, two = lab(2)
    run = start(one, "--least", "1", "--join-seconds", "10", steps=100_000, save_every=20, keep_checkpoints=1)
    other = join(two, run)
    makes_step(run, 27)
    before = dict(losses(run))
    two.kill("torch.distributed.run")
    until(lambda: not trains(two), 5)
    until(lambda: trains(two) and world(run) == 2, 60, lambda: (read_cluster(run), tail(run)))
    makes_step(run, max(before) + 5)
    again = dict(losses(run))
    assert max(abs(again[number] - loss) for number, loss in before.items()) < 1e-5  # made again as they were
    sent = latest(two.home / "joined/run-2/checkpoints")
    assert sent is not None
    verify(sent.path)
    one.kill("glmstudio.runs.supervise")
    until(lambda: not one.processes(), 10, one.processes)
    until(lambda: not two.processes(), 60, two.processes)
    assert "The first machine, 10.77.0.1, does not answer." in text(other)
    assert other.returncode == 1


@pytest.mark.slow
def test_stop_now_resume_and_leave(lab: Any) -> None:
    """25 s."""
    one, two = lab(2)
    run = start(one, steps=100_000, save_every=20, keep_checkpoints=1)
    other = join(two, run)
    makes_step(run, 25)
    assert two.interfaces() == {"eth0"}
    said = one.call("runs", "stop", "run", "--now")
    assert "Nothing of the run is left on 2 machines: 0 processes, port 29400 is free" in said
    assert ends(run, one, two)["state"] == "stopped"
    assert "The run is over: stopped." in text(other)
    one.call("runs", "resume", "run")
    until(lambda: (run.path / "cluster.json").stat().st_mtime > run.record.attempt.launched, 20)
    waiting = join(two, run)
    is_in(run, 2, "joined")
    (pid,) = [pid for pid, line in two.processes() if "glmstudio join" in line]
    os.kill(pid, signal.SIGTERM)
    assert "The run is over: left." in text(waiting)
    found = is_in(run, 2, "gone").problem
    assert found is not None
    assert found.what() == "Machine 2 (node2) has left."
    waiting = join(two, run)
    makes_step(run, 26)
    assert losses(run)[0][0] == 1
    one.call("runs", "stop", "run")
    assert ends(run, one, two)["state"] == "stopped"
    assert text(waiting).count("Training.") == 1


@pytest.mark.rare
def test_who_does_not_fit_is_told_why_on_both_machines(lab: Any) -> None:
    """Another version, other data, a wrong code, a port that is held, a machine to which no way leads: 33 s."""
    one, two, three = lab(3)
    data = small_data(one.lab.folder)
    one.do("ip", "route", "add", "blackhole", three.ip)
    holder = one.run(sys.executable, "-S", "-c", HOLD)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    again = ["train", PRESET, "--data", str(data), "--machines", "10.77.0.1,node2", "--name", "run"]
    taken = "The rendezvous port 29400 is in use on this machine."
    assert taken in one.call(*again, status=1)
    one.kill("held.listen")
    run = start(one, "--join-seconds", "30", machines=3)
    until(lambda: machine(run, 1).state == "joined", 20)
    assert "The join code is not that of this run." in text(two.studio("join", "10.77.0.1", "--code", "x" * 32))
    older = one.lab.folder / "older"
    shutil.copytree(ROOT / "glmstudio", older / "glmstudio")
    with (older / "glmstudio/train/distributed/straggler.py").open("a") as file:
        file.write("# another version\n")
    refused = text(join(two, run, program=older))
    assert "Machine 2 (node2) does not have the same version of the studio: 0.1.0 (" in refused
    problem = is_in(run, 2, "refused").problem
    assert problem is not None
    assert f"error: {problem.what('en')}" in refused
    other = one.lab.folder / "other.jsonl"
    other.write_text("".join(data.read_text().splitlines(keepends=True)[1:]))
    assert "does not have the same data" in text(join(two, run, "--data", str(other)))
    assert ends(run, one, two)["state"] == "failed"
    words = str(run.read_state().problem)
    assert "The run needs 3 machines, and only 1 had joined in time." in words
    assert "Machine 2 (node2) does not have the same data" in words
    assert "There is no route to machine 3 (10.77.0.3) at 10.77.0.3." in words


HOLD = """
import socket, time
held = socket.socket()
held.bind(("10.77.0.1", 29400))
held.listen()
print("held", flush=True)
time.sleep(60)
"""
