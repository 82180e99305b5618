"""Trainings that somebody suspended, with a real Ctrl+Z in a real terminal, or with a signal: named, offered, ended."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from glmstudio.doctor import StaleProcess, diagnose, end_stale
from glmstudio.doctor.checks import ports
from glmstudio.doctor.engine.check import Probes
from glmstudio.doctor.engine.report import Finding
from glmstudio.rundir.run import Run
from glmstudio.runs.stop import stop_now
from glmstudio.system.process import Identity, alive, environment, free_port, identify, send
from glmstudio.system.process_table import JOB, is_stopped, read_table
from glmstudio.system.suspension import paused_s
from tests.run_helpers import LONG, begin, wait_for_step, who
from tests.waiting import until

Spawn = Callable[..., "subprocess.Popen[str]"]
SLEEP = "import time; time.sleep(120)"
# A launcher as torchrun is: it listens, its worker connects to it from a session of its own.
AGENT = """
import os, socket, subprocess, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
code = f"import socket, time; s = socket.create_connection(('127.0.0.1', {sys.argv[1]})); print(flush=True); time.sleep(120)"
worker = subprocess.Popen([sys.executable, "-S", "-c", code], env={**os.environ, "TORCHELASTIC_RUN_ID": "x"}, start_new_session=True)
kept = listener.accept()
print(worker.pid, flush=True)
time.sleep(120)
"""
# A real training; each worker says that it is there, and then waits.
ENTRY = """
import os, pathlib, sys, time
import torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()
pathlib.Path(sys.argv[1], f"rank{os.environ['RANK']}").touch()
time.sleep(120)
"""


@dataclass(frozen=True)
class Training:
    """A launcher that listens, and its worker."""

    agent: Identity
    worker: Identity
    port: int


@pytest.fixture
def training(spawn: Spawn, tmp_path: Path) -> Training:
    (tmp_path / "torchrun").write_text(AGENT)
    port = free_port()
    agent = spawn("-S", str(tmp_path / "torchrun"), str(port))
    assert agent.stdout is not None
    agent.stdout.readline()  # its worker speaks first, over the same pipe
    agent.stdout.readline()
    known = identify(agent.pid), identify(psutil.Process(agent.pid).children()[0].pid)
    assert known[0] is not None
    assert known[1] is not None
    return Training(*known, port)


class Terminal:
    """A shell with job control behind a terminal, as somebody has it on the screen."""

    def __init__(self) -> None:
        self._mine, theirs = os.openpty()
        self.mark = uuid.uuid4().hex
        self.shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            env={**os.environ, "GLMSTUDIO_TEST_MARK": self.mark, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        os.close(theirs)
        threading.Thread(target=self._drain, daemon=True).start()

    def type(self, text: str) -> None:
        os.write(self._mine, text.encode())

    def close(self) -> None:
        for pid in psutil.pids():
            left = identify(pid) if environment(pid).get("GLMSTUDIO_TEST_MARK") == self.mark else None
            if left:
                send(left, signal.SIGKILL)
        self.shell.wait()
        os.close(self._mine)

    def _drain(self) -> None:
        with contextlib.suppress(OSError):
            while os.read(self._mine, 4096):
                pass


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def stop(*identities: Identity) -> None:
    for each in identities:
        os.kill(each.pid, signal.SIGSTOP)
        until(lambda pid=each.pid: is_stopped(pid))


def listed(*of: Identity) -> dict[int, StaleProcess]:
    """What the doctor lists of these; on this machine, others may test, too."""
    return {each.identity.pid: each for each in diagnose(only=["proc.stale"]).stale if each.identity in of}


def kinds(*identities: Identity) -> list[str | None]:
    found = listed(*identities)
    return [found[each.pid].kind if each.pid in found else None for each in identities]


def findings(run: str = "") -> list[Finding]:
    results = diagnose(only=["proc.suspended"]).results
    return [result for result in results if result.is_finding and result.subject == run]


def job(agent: Identity) -> list[str]:
    return [each.kind for each in diagnose(only=["proc.jobs"]).jobs if each.pid == agent.pid]


def port_result(port: int) -> Finding:
    return replace(ports._port(port, Probes()), id="net.port", family="network")


# --- Ctrl+Z in a terminal --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [True, False])
def test_a_real_torchrun_is_suspended_continued_and_ended(
    signalled: bool, home: Path, terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "entry.py").write_text(ENTRY)
    port = free_port()
    line = (
        f"{sys.executable} -m torch.distributed.run --nnodes=1 --nproc-per-node=2 --rdzv-backend=c10d "
        f"--rdzv-endpoint=127.0.0.1:{port} --rdzv-id=mine --local-addr=127.0.0.1 {tmp_path / 'entry.py'} {tmp_path}\n"
    )
    terminal.type(line)
    until(lambda: all((tmp_path / f"rank{rank}").exists() for rank in range(2)))
    (agent,) = [identify(each.pid) for each in psutil.Process(terminal.shell.pid).children()]
    assert agent is not None
    workers = [identify(each.pid) for each in psutil.Process(agent.pid).children()]
    assert listed(agent, *workers) == {}

    terminal.type("\x1a")
    until(lambda: is_stopped(agent.pid))
    if signalled:  # torchrun's workers have sessions of their own, and Ctrl+Z does not reach them
        stop(*workers)

    found = listed(agent, *workers)
    family = {agent.pid, *(each.pid for each in workers)}
    assert set(found) == (family if signalled else {agent.pid})
    assert {(each.kind, each.ticked) for each in found.values()} == {("foreign_suspended", False)}
    assert "Suspended with Ctrl+Z" in found[agent.pid].why("en")
    assert "; `fg` in its terminal continues it." in found[agent.pid].why("en")
    assert ("Its workers are still running: 2." in found[agent.pid].why("en")) is not signalled
    result = port_result(port)
    assert (result.status, result.case, result.values["pid"]) == ("warning", "suspended", agent.pid)
    assert str(agent.pid) in findings()[0].fix("en").partition("`python launcher.py doctor --end ")[2]
    assert job(agent) == ["suspended"]

    terminal.type("fg\n")
    until(lambda: not is_stopped(agent.pid))
    for each in workers if signalled else []:
        os.kill(each.pid, signal.SIGCONT)
    until(lambda: listed(agent, *workers) == {})
    assert port_result(port).case == "job"

    terminal.type("\x1a")
    until(lambda: is_stopped(agent.pid))
    if signalled:
        stop(*workers)
    results = end_stale([each.token for each in listed(agent, *workers).values()])
    assert {(each.pid, each.outcome) for each in results} == {
        (pid, "ended") for pid in (family if signalled else {agent.pid})
    }
    assert not any(map(alive, [agent, *workers]))
    assert port_result(port).case == "ok"


def test_one_that_was_continued_before_the_click_is_left_alone(home: Path, training: Training) -> None:
    stop(training.agent, training.worker)
    tokens = [each.token for each in listed(training.agent, training.worker).values()]
    for each in (training.agent, training.worker):
        os.kill(each.pid, signal.SIGCONT)
    until(lambda: not is_stopped(training.worker.pid))
    assert [each.outcome for each in end_stale(tokens)] == ["changed", "changed"]
    assert alive(training.agent)


# --- Parts of a training ---------------------------------------------------------------------------------------------


def test_a_launcher_that_stands_still_while_its_worker_runs(home: Path, training: Training) -> None:
    stop(training.agent)
    (process,) = listed(training.agent, training.worker).values()
    assert process.identity == training.agent
    assert "Its workers are still running: 1." in process.why("en")
    assert f"`kill -CONT {training.agent.pid}` continues it." in process.why("en")
    assert "它的训练进程仍在运行：1 个。" in process.why("zh")
    assert port_result(training.port).case == "suspended"
    (result,) = end_stale([process.token], polite=1)
    assert (result.outcome, result.freed_ports) == ("ended", (training.port,))
    assert not alive(training.agent)


def test_a_worker_that_stands_still_while_its_launcher_runs(home: Path, training: Training) -> None:
    stop(training.worker)
    assert kinds(training.agent, training.worker) == [None, "foreign_suspended"]
    assert port_result(training.port).case == "suspended", "it is not well"
    (result,) = end_stale([listed(training.agent, training.worker)[training.worker.pid].token])
    assert result.outcome == "ended"
    assert not alive(training.worker)
    assert alive(training.agent)


def test_a_port_where_a_stranger_is_connected_too_is_left_alone(home: Path, training: Training, spawn: Spawn) -> None:
    stop(training.agent, training.worker)
    join = f"import socket, time; s = socket.create_connection(('127.0.0.1', {training.port})); print(flush=True); time.sleep(120)"
    other = spawn("-S", "-c", join)
    assert other.stdout is not None
    other.stdout.readline()
    results = {
        each.pid: each.outcome
        for each in end_stale([each.token for each in listed(training.agent, training.worker).values()])
    }
    assert results == {training.agent.pid: "shared", training.worker.pid: "ended"}
    assert alive(training.agent)


def test_one_that_ignores_the_polite_signal_is_ended_all_the_same(home: Path, spawn: Spawn, tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(120)"
    (tmp_path / "torchrun").write_text(
        f"import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-S', '-c', {deaf!r}], env={{**os.environ, {JOB!r}: 'x'}})\ntime.sleep(120)\n"
    )
    agent = spawn("-S", str(tmp_path / "torchrun"))
    assert agent.stdout is not None
    agent.stdout.readline()
    worker = identify(psutil.Process(agent.pid).children()[0].pid)
    assert worker is not None
    stop(worker)
    (result,) = end_stale([listed(worker)[worker.pid].token], polite=0.3)
    assert result.outcome == "ended"
    assert not alive(worker)


def test_an_orphan_that_stands_still_is_an_orphan_and_ends(home: Path, training: Training) -> None:
    stop(training.worker)
    os.kill(training.agent.pid, signal.SIGKILL)
    until(lambda: not alive(training.agent))
    (process,) = listed(training.agent, training.worker).values()
    assert (process.kind, process.suspended) == ("foreign_orphan", False)
    (result,) = end_stale([process.token])
    assert result.outcome == "ended"
    assert not alive(training.worker)


# --- What is no suspended training -----------------------------------------------------------------------------------


def test_one_that_a_debugger_holds_is_not_called_suspended(home: Path, training: Training) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    attach, detach = 16, 17
    held, done = threading.Event(), threading.Event()

    def debug() -> None:  # only the thread that attached may let go
        libc.ptrace(attach, training.worker.pid, None, None)
        os.waitpid(training.worker.pid, 0x40000000)  # __WALL
        held.set()
        done.wait(60)
        libc.ptrace(detach, training.worker.pid, None, None)

    debugger = threading.Thread(target=debug)
    debugger.start()
    try:
        if not held.wait(10) or psutil.Process(training.worker.pid).status() != psutil.STATUS_TRACING_STOP:
            pytest.skip("nobody may debug here")
        assert kinds(training.agent, training.worker) == [None, None]
        assert job(training.agent) == ["healthy"]
    finally:
        done.set()
        debugger.join()


def test_what_somebody_suspended_in_a_terminal_with_old_variables_is_no_training(
    home: Path, terminal: Terminal
) -> None:
    terminal.type(f'export {JOB}=none RANK=0; {sys.executable} -S -c "{SLEEP}"\n')
    until(lambda: psutil.Process(terminal.shell.pid).children())
    (mine,) = psutil.Process(terminal.shell.pid).children()
    until(lambda: read_table().processes[mine.pid].job == "none")
    terminal.type("\x1a")
    until(lambda: is_stopped(mine.pid))
    known = identify(mine.pid)
    assert known is not None
    assert kinds(known) == [None]


def test_other_programs_that_stand_still_are_nobodys_business(home: Path, spawn: Spawn) -> None:
    stopped = identify(spawn("-S", "-c", SLEEP).pid)
    assert stopped is not None
    stop(stopped)
    assert kinds(stopped) == [None]


# --- Runs of the studio ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_of_the_studio_that_stands_still_is_named_and_stopped_as_a_run(clean: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, **LONG)
    wait_for_step(run, 3)
    parts = who(run)
    assert findings("run") == []
    stop(*parts.values())

    found = listed(*parts.values())
    assert {each.pid for each in parts.values()} == set(found)
    assert {(each.kind, each.ticked) for each in found.values()} == {("ours_suspended", False)}
    assert found[parts["rank"].pid].why("en").startswith("Belongs to the run “run”, which is suspended. ")
    assert found[parts["rank"].pid].why("zh").startswith("属于训练任务“run”，它被挂起了。")
    (finding,) = findings("run")
    assert (finding.case, finding.subject) == ("ours", "run")
    assert "`python launcher.py runs stop run`" in finding.fix("en")

    (result,) = end_stale([found[parts["rank"].pid].token], stop_run=stop_now)
    assert result.outcome == "ended"
    assert run.processes() == []
    assert Run("run", run.path).read_state().state == "stopped"


# --- Since when ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/sched").exists(), reason="this kernel does not tell")
@pytest.mark.parametrize("which", [0, -1])
def test_the_time_since_it_stands_still_only_grows(home: Path, training: Training, which: int) -> None:
    """On whichever processor it stood still last: each has a clock of its own, and they do not agree."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(training.worker.pid, {sorted(allowed)[which]})
    stop(training.worker)
    first = paused_s(training.worker.pid)
    time.sleep(0.1)
    second = paused_s(training.worker.pid)
    assert first is not None
    assert second is not None
    assert second > first
    assert os.sched_getaffinity(0) == allowed, "this thread may run where it could"
    (process,) = listed(training.agent, training.worker).values()
    assert process.suspended_s is not None
    assert " ago; " in process.why("en")
    assert "前被信号暂停" in process.why("zh")


def test_a_kernel_that_does_not_tell_is_no_problem(
    home: Path, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmstudio.system.suspension._last_turn", lambda _: None)
    stop(training.worker)
    (process,) = listed(training.agent, training.worker).values()
    assert process.suspended_s is None
    assert f"Stopped by a signal; `kill -CONT {training.worker.pid}` continues it." in process.why("en")
    assert f"被信号暂停，运行 `kill -CONT {training.worker.pid}` 可以继续。" in process.why("zh")
