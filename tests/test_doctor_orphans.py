"""Who still looks after a process and who does not: launchers, terminals, adopters and namespaces, all of them real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from glmstudio.doctor import diagnose, end_stale
from glmstudio.doctor.engine.audit import entries
from glmstudio.doctor.stale.stale_processes import find_stale
from glmstudio.files import write_json
from glmstudio.jobs.presence import is_held_by
from glmstudio.paths import make_home, paths
from glmstudio.system import process_table
from glmstudio.system.process import COOKIE, Identity, alive, free_port, identify
from glmstudio.system.process_table import JOB, read_table
from tests.e2e.studio import command, environment
from tests.fakes.nvml import FakeDriver
from tests.marks import slow
from tests.waiting import until

ROOT = Path(__file__).parent.parent
Spawn = Callable[..., "subprocess.Popen[str]"]
Orphan = Callable[..., Identity]
SLEEP = "import time; time.sleep(120)"
WORKER = {JOB: "none", "RANK": "0", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "0"}
# Starts the worker of a training, as every launcher does, says its number, and waits.
LAUNCH = f"""
import os, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-S", "-c", {SLEEP!r}], env={{**os.environ, **{WORKER!r}}}, start_new_session=True)
print(worker.pid, flush=True)
time.sleep(120)
"""


def kinds() -> dict[int, str]:
    return {each.process.identity.pid: each.process.kind for each in find_stale(read_table())}


def said(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    return int(child.stdout.readline())


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()


# --- Launchers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [("torchrun",), ("-um", "deepspeed.launcher.launch"), ("-c", LAUNCH)])
def test_workers_are_orphans_only_once_their_launcher_is_gone(
    how: tuple[str, ...], home: Path, spawn: Spawn, tmp_path: Path
) -> None:
    for name in ("torchrun", "deepspeed/launcher/launch.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(LAUNCH)
    argv = [str(tmp_path / how[0]) if how[0] == "torchrun" else how[0], *how[1:]]
    launcher = spawn(*argv, PYTHONPATH=str(tmp_path))
    worker = said(launcher)
    assert worker not in kinds()
    assert launcher.pid not in kinds()
    kill(launcher)
    assert kinds()[worker] == "foreign_orphan"


def test_a_detached_launcher_is_healthy(home: Path, orphan: Orphan, tmp_path: Path) -> None:
    """As under nohup, or in tmux: its parent is process 1, or whoever adopts, and that means nothing."""
    (tmp_path / "torchrun").write_text(LAUNCH)
    agent = orphan(str(tmp_path / "torchrun"), ready=False)
    (worker,) = until(psutil.Process(agent.pid).children)
    assert {agent.pid, worker.pid}.isdisjoint(kinds())
    assert [job.kind for job in diagnose(only=["proc.jobs"]).jobs if job.pid == agent.pid] == ["healthy"]


# A process that adopts what loses its parent (as `systemd --user` and tini do), with a launcher below it.
ADOPT = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.Popen([sys.executable, "-S", sys.argv[1]])
os.execvp("sleep", ["sleep", "120"])
"""


def test_an_orphan_is_one_whoever_adopted_it(home: Path, spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "torchrun").write_text(LAUNCH)
    adopter = spawn("-S", "-c", ADOPT, str(tmp_path / "torchrun"))
    worker = psutil.Process(said(adopter))
    agent = worker.parent()
    assert agent is not None
    assert worker.pid not in kinds()
    agent.kill()
    while worker.ppid() == agent.pid:
        time.sleep(0.01)
    assert worker.ppid() == adopter.pid
    assert kinds()[worker.pid] == "foreign_orphan"


@pytest.mark.parametrize("what", ["studio", slow("server")])
def test_a_studio_in_a_shell_with_old_variables_is_no_leftover(
    what: str, home: Path, orphan: Orphan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another home, too: what it is, the lock says that it holds. So is what it starts; its like without one is listed."""
    there = tmp_path / "there"
    variables = environment(there, **WORKER)
    with monkeypatch.context() as other:
        other.setenv("GLMSTUDIO_HOME", str(there))
        make_home()
    if what == "studio":
        left = orphan(*command()[1:], **variables)
        until(lambda: (there / "state/studio.json").exists() and alive(left))
    else:
        left = orphan("-m", "glmstudio.serve", "--model", "demo", "--port", str(free_port()), **variables)
        until(lambda: is_held_by(left.pid))
    pretends = orphan("-S", "-c", f"kept = open({str(there / 'state/studio.lock')!r}, 'a'); {SLEEP}", **WORKER)
    until(lambda: kinds().get(pretends.pid) == "foreign_orphan")
    assert left.pid not in kinds()
    os.kill(left.pid, signal.SIGSTOP)
    until(lambda: psutil.Process(left.pid).status() == psutil.STATUS_STOPPED)
    assert left.pid not in kinds()
    os.kill(left.pid, signal.SIGKILL)
    until(lambda: not alive(left))
    assert not is_held_by(left.pid)


def test_what_a_studio_starts_is_its_own(home: Path, orphan: Orphan) -> None:
    make_home()
    code = f"""
import subprocess, sys
from glmstudio.jobs.presence import STUDIO, hold
kept = hold(STUDIO)
print(subprocess.Popen([sys.executable, "-S", "-c", {SLEEP!r}]).pid, flush=True); {SLEEP}
"""
    left = orphan("-c", code, ready=True, PYTHONPATH=str(ROOT), **WORKER)
    (child,) = psutil.Process(left.pid).children()
    assert not {left.pid, child.pid} & set(kinds())
    os.kill(left.pid, signal.SIGKILL)
    until(lambda: kinds().get(child.pid) == "foreign_orphan")


def test_what_somebody_runs_in_a_terminal_with_old_variables_is_no_orphan(home: Path, orphan: Orphan) -> None:
    """Variables of a training that were exported there make no process a part of it."""
    inner = f"{sys.executable} -S -c 'import os, time; print(os.getpid(), flush=True); time.sleep(120)' & wait"
    code = f"import os; os.execvp('script', ['script', '-qfc', {inner!r}, '/dev/null'])"
    terminal = orphan("-S", "-c", code, **WORKER)
    below = until(lambda: [each for each in read_table().below(terminal.pid) if each.is_python])
    assert [(each.job, each.in_terminal) for each in below] == [("none", True)]
    assert below[0].pid not in kinds()


HELPED = f"""
import os, subprocess, sys, time
code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-S', '-c', {SLEEP!r}]).pid, flush=True)"
rank = "import subprocess, sys, time; subprocess.run([sys.executable, '-S', '-c', sys.argv[1]]); time.sleep(120)"
subprocess.Popen([sys.executable, "-S", "-c", rank, code], env={{**os.environ, **{WORKER!r}}}, start_new_session=True)
time.sleep(120)
"""


def test_what_a_healthy_worker_let_go_of_belongs_to_it(
    home: Path, spawn: Spawn, orphan: Orphan, tmp_path: Path
) -> None:
    """A helper in the background, as loggers start them; a leftover of yesterday with the same numbers does not."""
    yesterday = orphan("-S", "-c", SLEEP, **WORKER)
    (tmp_path / "torchrun").write_text(HELPED)
    agent = spawn(str(tmp_path / "torchrun"))
    helper = said(agent)
    while psutil.Process(helper).ppid() != psutil.Process(yesterday.pid).ppid():
        time.sleep(0.01)
    assert helper not in kinds()
    assert kinds()[yesterday.pid] == "foreign_orphan"
    (rank,) = [each.pid for each in psutil.Process(agent.pid).children()]
    kill(agent)
    assert {rank, helper} <= set(kinds())


# --- Other namespaces ------------------------------------------------------------------------------------------------

CONTAINER = f"""
import os, subprocess, sys
subprocess.Popen([sys.executable, "-S", "-c", {SLEEP!r}], env={{**os.environ, **{WORKER!r}}}, start_new_session=True)
code = "from glmstudio.doctor import diagnose; import json; print(json.dumps(diagnose(only=['proc']).to_json()))"
subprocess.run([sys.executable, "-c", code])
"""


def inside(*command: str, home: Path) -> str:
    """What a command prints as process 1 of a machine of its own, with nothing on its network."""
    done = subprocess.run(
        ["unshare", "--pid", "--net", "--mount", "--fork", "--kill-child", "--mount-proc", "bash", "-c",
         'ip link set lo up; exec "$@"', "-", *command],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_container_whose_first_process_is_torchrun(home: Path, tmp_path: Path) -> None:
    (tmp_path / "torchrun").write_text(CONTAINER)
    facts = json.loads(inside(sys.executable, str(tmp_path / "torchrun"), home=home))["facts"]
    assert facts["stale"] == []
    assert [(job["pid"], job["kind"]) for job in facts["jobs"]] == [(1, "healthy")]


# Two real trainings that meet at 29400, seen while they are well, and once their torchruns were killed.
REAL = """
import json, os, signal, subprocess, sys, time
from glmstudio.doctor import diagnose, end_stale
entry = sys.argv[1]
def start(name, processes):
    agent = subprocess.Popen([sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={processes}",
        "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:29400", f"--rdzv-id={name}", "--local-addr=127.0.0.1", entry],
        stdout=subprocess.PIPE, text=True)
    for _ in range(processes): agent.stdout.readline()
    return agent
agents = [start("one", 2), start("two", 1)]
def look():
    report = diagnose(only=["net.port", "proc"])
    port = next(result for result in report.results if result.subject == "29400")
    return report, [port.status, port.case, port.values.get("peers"), port.values.get("who") == f" (pt_elastic {agents[1].pid})"], [[job.kind, job.workers] for job in report.jobs]
report, port, jobs = look()
first = [port, jobs, [each.kind for each in report.stale]]
for agent in agents: os.kill(agent.pid, signal.SIGKILL)
for agent in agents: agent.wait()
report, port, jobs = look()
second = [port, jobs, sorted(each.kind for each in report.stale)]
third = [[result.outcome for result in end_stale([each.token for each in report.stale])], len(look()[0].stale)]
print(json.dumps([first, second, third]))
"""
ENTRY = """
import os, time
import torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()
print("ready", flush=True)
time.sleep(120)
"""


@pytest.mark.slow
def test_two_real_trainings_at_29400_before_and_after_their_torchruns_were_killed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "entry.py").write_text(ENTRY)
    lines = inside(
        "bash", "-c", '"$@"; exit $?', "-", sys.executable, "-c", REAL, str(tmp_path / "entry.py"), home=home
    )
    first, second, third = json.loads(lines.splitlines()[-1])
    assert first == [["info", "job", 1, True], [["healthy", 2], ["healthy", 1]], []]
    assert second == [["ok", "ok", None, False], [], ["foreign_orphan"] * 3]
    assert third == [["ended"] * 3, 0]


# --- What is told and shown ------------------------------------------------------------------------------------------


def test_names_that_a_program_gave_itself_do_no_harm(home: Path, orphan: Orphan) -> None:
    code = f"open('/proc/self/comm', 'wb').write(b'pt_\\xff\\x1b[31m'); print(flush=True); {SLEEP}"
    start = f"import os, sys; os.execv(sys.executable, [b'python', b'-S', b'-c', {code!r}.encode(), b'\\xff\\x1b[2J\\nline'])"
    left = orphan("-S", "-c", start, ready=True, **WORKER)
    report = diagnose(only=["proc", "net.port"])
    (stale,) = [each for each in report.stale if each.identity == left]
    assert stale.command.endswith("� [2J line".replace(" [", "�["))
    json.dumps(report.to_json(), ensure_ascii=False).encode()
    assert [each.outcome for each in end_stale([stale.token])] == ["ended"]
    assert entries()[0]["pid"] == left.pid


def test_all_checks_share_one_look_at_the_processes(
    home: Path, orphan: Orphan, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan("-S", "-c", SLEEP, **WORKER)
    looks = []
    monkeypatch.setattr(process_table.psutil, "pids", lambda every=psutil.pids: looks.append(1) or every())
    diagnose(only=["proc", "net.port"])
    assert len(looks) == 1


MEMORY = """
import os, pathlib, subprocess, sys, threading, time
from glmstudio.doctor import diagnose, end_stale; from glmstudio.system import gpu_memory as memory, nvml
for module in (memory, nvml): module.has_the_machines_pids = lambda: True
cards, pid = pathlib.Path(os.environ["FAKE_NVML"]), sys.argv[1]
(stale,) = [each for each in diagnose(only=["proc.stale"]).stale if each.identity.pid == int(pid)]
def tell(stage):
    if stage == "proving" and sys.argv[2] == "back":  # the driver forgets it a moment later
        threading.Timer(0.7, lambda: cards.write_text(cards.read_text().replace(pid + ":2048", ""))).start()
from glmstudio.doctor.stale import ending
ending._MEMORY_BACK = 1.5
(result,) = end_stale([stale.token], tell=tell)
print(stale.gpu_mib, result.freed_mib, result.kept_mib, result.text("en"), sep="|")
"""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("back", "2048|2048|None|Process {pid} has ended. Freed: 2.0 GiB of GPU memory."),
        (
            "kept",
            "2048|None|2048|Process {pid} has ended. The driver still counts 2.0 GiB for it; check again in a minute.",
        ),
    ],
)
def test_the_memory_that_comes_back_is_a_part_of_the_proof(
    how: str, said: str, home: Path, orphan: Orphan, tmp_path: Path
) -> None:
    left = orphan("-S", "-c", SLEEP, **WORKER)
    text = f"driver=580.65.06 cuda=13000 v2=1\nTesla V100-SXM2-32GB|32768|2100|0|41|55000|300000|{left.pid}:2048\n"
    environment = {**os.environ, **FakeDriver(tmp_path).environment(text)}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(left.pid), how], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout == said.format(pid=left.pid) + "\n", done.stderr


def test_a_port_that_another_process_keeps_is_said_to_be_taken(home: Path, orphan: Orphan) -> None:
    """A loader inherits its rank's listening socket: the port is free only once both are gone."""
    code = f"""
import os, socket, time
listener = socket.create_server(("127.0.0.1", 0)); listener.set_inheritable(True)
if os.fork() == 0: time.sleep(120)
print(listener.getsockname()[1], flush=True); {SLEEP}
"""
    holder = orphan("-S", "-c", code, ready=True, **WORKER)
    stale = {each.identity: each for each in diagnose(only=["proc.stale"]).stale}
    (child,) = psutil.Process(holder.pid).children()
    (port,) = {connection.laddr.port for connection in psutil.Process(child.pid).net_connections()}
    (result,) = end_stale([stale[holder].token])
    assert (result.freed_ports, result.kept_ports) == ((), (port,))
    assert result.text("en") == f"Process {holder.pid} has ended. Still taken, by another process: port {port}."
    rest = identify(child.pid)
    assert alive(rest)
    (result,) = end_stale([each.token for each in diagnose(only=["proc.stale"]).stale if each.identity == rest])
    assert result.freed_ports == (port,)


# --- Past runs -------------------------------------------------------------------------------------------------------


def test_runs_that_cannot_be_read_are_named_and_stop_nothing(home: Path, spawn: Spawn) -> None:
    def past() -> list[tuple[str, str]]:
        return [(result.status, result.case) for result in diagnose(only=["run.dirs"]).results]

    spawn("-S", "-c", SLEEP, **{COOKIE: "some-run"})
    write_json(paths().runs / "whole" / "run.json", {"run_id": "a", "created": 1.0, "settings": {}})
    write_json(paths().runs / "whole" / "status.json", {"state": "finished"})
    assert past() == [("ok", "ok")]
    for name, text in {"cut": '{"created": 2', "list": "[]", "nothing": "{}", "folder": ""}.items():
        (paths().runs / name).mkdir()
        if text:
            (paths().runs / name / "run.json").write_text(text)
    (paths().runs / "folder" / "run.json").mkdir()
    (paths().runs / "empty").mkdir()  # not a run
    assert past() == [("ok", "ok"), ("info", "unreadable")]
    result = diagnose(only=["run.dirs"]).results[1]
    assert set(result.values["names"].split(", ")) == {"cut", "list", "nothing", "folder"}
    assert diagnose(only=["proc.stale"]).results[0].status != "crash"
    (paths().runs / "whole" / "status.json").write_text("[1]")
    assert past() == [("info", "died"), ("info", "unreadable")], "nobody says that it finished, and nothing of it runs"


def test_a_thousand_runs_are_looked_through(home: Path) -> None:
    for number in range(1000):
        write_json(
            paths().runs / f"run-{number}" / "run.json",
            {"run_id": str(number), "created": float(number), "settings": {}},
        )
        write_json(paths().runs / f"run-{number}" / "status.json", {"state": "finished"})
    result: Any = diagnose(only=["run.dirs"]).results[0]
    assert result.fact("en") == "1000 runs; the last one, “run-999”, did not fail."
