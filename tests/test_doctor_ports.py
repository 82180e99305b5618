"""The meeting points of torchrun, held by real processes of every kind."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from glmstudio.doctor import diagnose, end_stale
from glmstudio.doctor.checks import ports
from glmstudio.doctor.engine.check import Probes
from glmstudio.doctor.engine.report import Finding
from glmstudio.system.process import COOKIE, Identity, alive, free_port
from glmstudio.system.process_table import JOB
from glmstudio.system.sockets import read_sockets
from tests.waiting import until

ROOT = Path(__file__).parent.parent
LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print(flush=True); time.sleep(120)"
# An agent as torchrun is: it listens, starts a worker with a job id, and the worker connects to it.
AGENT = """
import os, socket, subprocess, sys, time
port = int(sys.argv[1])
listener = socket.create_server(("127.0.0.1", port))
code = f"import socket, time; s = socket.create_connection(('127.0.0.1', {port})); print(flush=True); time.sleep(120)"
worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TORCHELASTIC_RUN_ID": "x"}, start_new_session=True)
kept = listener.accept()
print(worker.pid, flush=True)
time.sleep(120)
"""

Spawn = Callable[..., "subprocess.Popen[str]"]
Orphan = Callable[..., Identity]


def started(child: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert child.stdout is not None
    child.stdout.readline()
    return child


def port_result(port: int) -> Finding:
    found = ports._port(port, Probes())
    return replace(found, id="net.port", family="network")


def test_both_meeting_points_are_looked_at(home: Path) -> None:
    assert [result.key for result in diagnose(only=["net.port"]).results] == ["net.port:29400", "net.port:29500"]


@pytest.mark.parametrize("port", ports.PORTS)
def test_a_free_port_and_one_of_a_web_server(port: int, home: Path, spawn: Spawn) -> None:
    server = spawn("-m", "http.server", str(port), "--bind", "127.0.0.1")
    until(lambda: read_sockets().ports_of(server.pid))
    result = next(r for r in diagnose(only=["net.port"]).results if r.subject == str(port))
    assert (result.status, result.case) == ("info", "other")
    assert result.what("en").startswith(
        f"Port {port} is used by {result.values['name']}, which is not a training (process {server.pid}): "
    )
    assert "http.server" in result.what("en")
    server.kill()
    server.wait()
    assert port_result(port).status == "ok"


def test_a_port_of_our_own_run_is_a_fact(home: Path, spawn: Spawn) -> None:
    port = free_port()
    started(spawn("-c", LISTEN, str(port), **{COOKIE: uuid.uuid4().hex}))
    assert (port_result(port).status, port_result(port).case) == ("ok", "ours")


def test_a_healthy_training_is_named_with_its_peers_and_never_offered(home: Path, spawn: Spawn, tmp_path: Path) -> None:
    port = free_port()
    program = tmp_path / "torchrun"
    program.write_text(AGENT)
    agent = spawn(str(program), str(port))
    assert agent.stdout is not None
    agent.stdout.readline()  # its worker speaks first, over the same pipe
    result = port_result(port)
    assert (result.status, result.case, result.values["pid"], result.values["peers"]) == ("info", "job", agent.pid, 1)
    worker = psutil.Process(agent.pid).children()[0]
    assert result.what("en") == (
        f"Another training uses port {port}: {result.values['name']} (process {agent.pid}). Connected to it: 1 "
        f"({worker.name()} {worker.pid})."
    )
    assert result.action == ""
    stale = {each.identity.pid for each in diagnose(only=["proc.stale"]).stale}
    assert not stale & {agent.pid, worker.pid}
    assert agent.pid in {job.pid for job in diagnose(only=["proc.jobs"]).jobs}


def test_a_stale_holder_is_offered_and_the_port_is_free_after_its_end(home: Path, orphan: Orphan) -> None:
    port = free_port()
    holder = orphan("-c", LISTEN, str(port), ready=True, **{JOB: "x"})
    result = port_result(port)
    assert (result.status, result.case, result.action) == ("warning", "stale", "proc.end")
    (stale,) = [each for each in diagnose(only=["proc.stale"]).stale if each.identity == holder]
    (ended,) = end_stale([stale.token])
    assert ended.freed_ports == (port,)
    assert ended.text("en") == f"Process {holder.pid} has ended. Freed: port {port}."
    assert port_result(port).case == "ok"


def test_a_stale_holder_that_another_training_uses_is_left_alone(home: Path, spawn: Spawn, orphan: Orphan) -> None:
    """Ending the owner of a shared meeting point would end the other training, too."""
    port = free_port()
    accept = LISTEN.replace("print(flush=True)", "print(flush=True); kept = s.accept()")
    holder = orphan("-c", accept, str(port), ready=True, **{JOB: "x"})
    join = (
        f"import socket, time; s = socket.create_connection(('127.0.0.1', {port})); print(flush=True); time.sleep(120)"
    )
    other = started(spawn("-c", join))
    (stale,) = [each for each in diagnose(only=["proc.stale"]).stale if each.identity == holder]
    (result,) = end_stale([stale.token])
    assert result.outcome == "shared"
    assert result.text("en") == f"Process {holder.pid} was left alone: another training is connected to its port."
    assert alive(holder)
    other.kill()
    other.wait()


AS_NOBODY = """
import os, sys
from glmstudio.doctor import diagnose; from glmstudio.doctor.checks import ports
from glmstudio.doctor.engine.check import Probes
diagnose(only=["net.port"])  # everything is imported before the rights are given up
os.setgroups([]); os.setgid(65534); os.setuid(65534)
found = ports._port(int(sys.argv[1]), Probes())
print(found.status, found.case, found.values["user"])
"""


def test_a_port_of_another_user(home: Path, spawn: Spawn) -> None:
    port = free_port()
    started(spawn("-c", LISTEN, str(port)))
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, str(port)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "info other_user root\n", done.stderr
