"""Identities, signals and ports, with real processes and real sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glmstudio.system import process
from glmstudio.system.process import COOKIE, Identity, alive, free_port, identify, port_is_free, send, with_cookie
from tests.waiting import until

SLEEPER = "import time; time.sleep(60)"


@pytest.fixture
def sleeper() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts sleeping processes and ends them after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str = SLEEPER, **environment: str) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **environment}, start_new_session=True)
        )
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.wait()


def test_an_identity_survives_a_file(sleeper: Callable[..., subprocess.Popen[bytes]]) -> None:
    identity = identify(sleeper().pid)
    assert identity is not None
    assert Identity.from_json(identity.to_json()) == identity
    assert set(identity.to_json()) == {"boot_id", "pid", "started"}


@pytest.mark.parametrize("data", [None, {}, {"pid": 4}, [], "4", {"boot_id": "a", "pid": "x", "started": 1}])
def test_a_damaged_identity_is_nobody(data: object) -> None:
    assert Identity.from_json(data) is None


def test_a_process_is_alive_until_it_ends_and_a_zombie_is_gone(sleeper: Callable[..., subprocess.Popen[bytes]]) -> None:
    child = sleeper()
    identity = identify(child.pid)
    assert alive(identity)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but not collected
    assert identify(child.pid) is None
    assert not alive(identity)


def test_a_reused_number_is_another_process(sleeper: Callable[..., subprocess.Popen[bytes]]) -> None:
    identity = identify(sleeper().pid)
    assert identity is not None
    assert not alive(Identity(identity.boot_id, identity.pid, identity.started - 1))
    assert not alive(Identity("another boot", identity.pid, identity.started))
    assert not alive(None)
    assert identify(0) is None
    assert identify(-1) is None


def test_a_name_with_parentheses_and_spaces_is_read(tmp_path: Path) -> None:
    program = tmp_path / "a) b (c"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as child:
        try:
            until(lambda: Path(f"/proc/{child.pid}/comm").read_text().strip() == "a) b (c")
            identity = identify(child.pid)
            assert identity is not None
            assert 0 < identity.started <= time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
        finally:
            child.kill()


def test_a_signal_reaches_the_process_it_was_meant_for(sleeper: Callable[..., subprocess.Popen[bytes]]) -> None:
    child = sleeper()
    identity = identify(child.pid)
    assert identity is not None
    assert send(identity, signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    assert not send(identity, signal.SIGTERM)


@pytest.mark.parametrize("pinned", [True, False])
def test_a_signal_never_reaches_a_stranger(
    sleeper: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, pinned: bool
) -> None:
    if not pinned:
        monkeypatch.delattr(os, "pidfd_open")
    child = sleeper()
    identity = identify(child.pid)
    assert identity is not None
    assert not send(Identity(identity.boot_id, identity.pid, identity.started - 1), signal.SIGKILL)
    assert child.poll() is None
    assert send(identity, signal.SIGKILL)
    assert child.wait(10) == -signal.SIGKILL


def test_a_signal_never_reaches_this_process_or_its_ancestors() -> None:
    for pid in {os.getpid(), os.getppid(), 1}:
        identity = identify(pid)
        assert identity is None or not send(identity, 0)


def test_the_cookie_finds_orphans_in_their_own_session(sleeper: Callable[..., subprocess.Popen[bytes]]) -> None:
    value = uuid.uuid4().hex
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], start_new_session=True)"
    parent = sleeper(code, **{COOKIE: value})
    assert parent.wait(10) == 0
    try:
        until(lambda: len(with_cookie(value)) == 1)
        assert with_cookie(value)[0].pid != parent.pid
        assert with_cookie(value + "x") == []
    finally:
        for identity in with_cookie(value):
            assert send(identity, signal.SIGKILL)
    until(lambda: with_cookie(value) == [])


LISTENERS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0")]
if process._has_ipv6():
    LISTENERS.append((socket.AF_INET6, "::"))


@pytest.mark.parametrize(("family", "address"), LISTENERS)
def test_a_port_with_a_listener_is_not_free(family: int, address: str) -> None:
    listener = socket.create_server((address, 0), family=family)
    with listener:
        port = listener.getsockname()[1]
        assert not port_is_free(port)
        assert free_port(port) != port
    assert port_is_free(port)
    assert free_port(port) == port


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_number_that_is_no_port_is_not_free(port: int) -> None:
    assert not port_is_free(port)


def test_without_proc_an_identity_still_tells_processes_apart(
    sleeper: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_HAS_PROC", False)
    child = sleeper()
    identity = identify(child.pid)
    assert identity is not None
    assert alive(identity)
    child.kill()
    child.wait()
    assert not alive(identity)


def test_a_child_of_ours_is_no_part_of_another_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "theirs")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("GLMSTUDIO_MEETING", "/proc/1/fd/3")
    marks = ("TORCHEL", "MASTER", "GLMSTUDIO_RUN", "GLMSTUDIO_MEET")
    code = f"import os; print(sorted(n for n in os.environ if n.startswith({marks})))"
    with (tmp_path / "log").open("wb") as log:
        process.spawn([sys.executable, "-c", code], log, "mine").wait()
    assert (tmp_path / "log").read_text() == "['GLMSTUDIO_RUN_ID']\n"
