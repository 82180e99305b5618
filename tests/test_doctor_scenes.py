"""Trainings that went wrong, with real processes: told apart, ended for good, and no bystander touched."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from glmstudio.doctor import diagnose, end_stale
from glmstudio.doctor.stale.stale_processes import find_stale
from glmstudio.files import write_json
from glmstudio.paths import paths
from glmstudio.system.process import COOKIE, Identity, alive, identify
from glmstudio.system.process_table import JOB, LOADER, ProcessInfo, read_table
from tests.marks import slow
from tests.waiting import until

ROOT = Path(__file__).parent.parent
Spawn = Callable[..., "subprocess.Popen[str]"]
# A process of a made-up training: it takes a name, starts its children, says that it is there, and waits.
NODE = """
import json, os, signal, sys, time
spec = json.loads(sys.argv[1])
if spec.get("stubborn"): signal.signal(signal.SIGTERM, signal.SIG_IGN)
if spec.get("comm"): open("/proc/self/comm", "w").write(spec["comm"])
for child in spec.get("children", ()):
    if os.fork() == 0:
        if child.get("session"): os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.execve(sys.executable, [sys.executable, "-S", child["program"], json.dumps(child)], {**os.environ, **child.get("env", {})})
open(spec["ready"], "w").write(str(os.getpid()))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
time.sleep(300)
"""


class Trees:
    """Trees of processes that the tests start, each known by a label."""

    def __init__(self, spawn: Spawn, folder: Path) -> None:
        self.spawn, self.folder = spawn, folder
        self.labels: list[str] = []
        for name in ("node.py", "torchrun"):
            (folder / name).write_text(NODE)

    def spec(self, *, agent: bool = False, **facts: Any) -> dict[str, Any]:
        """One process, not started yet."""
        label = f"{len(self.labels)}"
        self.labels.append(label)
        program = self.folder / ("torchrun" if agent else "node.py")
        return {"label": label, "ready": str(self.folder / f"ready-{label}"), "program": str(program), **facts}

    def grow(self, spec: dict[str, Any], **variables: str) -> subprocess.Popen[str]:
        """Start it and all below it."""
        return self.spawn("-S", spec["program"], json.dumps(spec), **variables)

    def identity(self, spec: dict[str, Any]) -> Identity:
        """Who it became."""
        file = Path(spec["ready"])
        until(lambda: file.exists() and file.read_text())
        found = identify(int(file.read_text()))
        assert found is not None
        return found

    def all_of(self, spec: dict[str, Any]) -> list[Identity]:
        """It and everything below it."""
        return [self.identity(spec), *(each for child in spec.get("children", ()) for each in self.all_of(child))]


@pytest.fixture
def trees(spawn: Spawn, tmp_path: Path) -> Trees:
    return Trees(spawn, tmp_path)


def dead() -> dict[str, Any]:
    """The identity of a process that is no more."""
    with subprocess.Popen(["true"]) as gone:
        found = identify(gone.pid)
    return found.to_json() if found else {"boot_id": "x", "pid": 4_000_000, "started": 1}


def write_run(state: str, run_id: str, **facts: Any) -> None:
    folder = paths().runs / f"run-{run_id[:6]}"
    write_json(folder / "run.json", {"run_id": run_id, **facts})
    write_json(folder / "status.json", {"state": state})


def kinds() -> dict[int, str]:
    return {each.process.identity.pid: each.process.kind for each in find_stale(read_table())}


# --- Told apart ------------------------------------------------------------------------------------------------------


def test_every_process_of_a_mixed_scene_has_its_class(home: Path, trees: Trees) -> None:
    job = {"env": {JOB: "job"}, "session": True}
    loader = trees.spec(comm=LOADER)
    healthy = trees.spec(agent=True, children=[trees.spec(**job, children=[loader]), trees.spec(**job)])
    renamed = trees.spec(comm="pt_elastic", children=[trees.spec(**job)])
    broken_loader = trees.spec(comm=LOADER)
    broken = trees.spec(agent=True, children=[trees.spec(**job, children=[broken_loader])])
    run_id, live_id = uuid.uuid4().hex, uuid.uuid4().hex
    ours, ours_live = trees.spec(children=[trees.spec(session=True)]), trees.spec()
    for spec in (healthy, renamed):
        trees.grow(spec)
    agent = trees.grow(broken)
    trees.grow(ours, **{COOKIE: run_id, JOB: "ours"})
    live = trees.grow(ours_live, **{COOKIE: live_id})
    write_run("running", run_id, supervisor=dead(), agent=dead())
    me = identify(live.pid)
    assert me is not None
    everyone = {spec["label"]: trees.all_of(spec) for spec in (healthy, renamed, broken, ours, ours_live)}
    write_run("running", live_id, supervisor=me.to_json())
    agent.kill()
    agent.wait()
    found = kinds()
    for label in (healthy["label"], renamed["label"], ours_live["label"]):
        assert [found.get(each.pid) for each in everyone[label]] == [None] * len(everyone[label])
    rank, its_loader = everyone[broken["label"]][1:]
    assert (found[rank.pid], found[its_loader.pid]) == ("foreign_orphan", "foreign_loader")
    assert [found[each.pid] for each in everyone[ours["label"]]] == ["ours_orphan"] * 2
    listed = {process.identity.pid: process for process in diagnose(only=["proc.stale"]).stale}
    assert listed[rank.pid].ticked is False
    assert listed[everyone[ours["label"]][0].pid].ticked is True
    jobs = {job.pid: (job.kind, job.workers) for job in diagnose(only=["proc.jobs"]).jobs}
    assert jobs[everyone[healthy["label"]][0].pid] == ("healthy", 3)
    assert jobs[everyone[renamed["label"]][0].pid] == ("healthy", 1)


@pytest.mark.parametrize(
    ("argv", "is_agent"),
    [
        (["python", "/usr/bin/torchrun", "x.py"], True),
        (["python3.11", "-m", "torch.distributed.run", "x.py"], True),
        (["/opt/python", "-u", "-X", "dev", "-m", "accelerate.commands.launch"], True),
        (["/usr/bin/deepspeed", "x.py"], True),
        (["python", "-um", "torch.distributed.run", "x.py"], True),
        (["python", "-m", "glmstudio.train.distributed.torchrun", "--nnodes=1", "-m", "glmstudio.train", "x"], True),
        (["python", "-m", "glmstudio.train", "x"], False),
        (["python3", "-mtorch.distributed.launch", "x.py"], True),
        (["python", "-Wignore", "-X", "dev", "/venv/bin/accelerate-launch", "x.py"], True),
        (["python", "/venv/lib/site-packages/torch/distributed/run.py", "x.py"], True),
        (["python", "-u", "-m", "deepspeed.launcher.launch", "--world_info=x", "x.py"], True),
        (["python", "-c", "torchrun"], False),
        (["python", "-i"], False),
        (["python", "-m", "pip", "install", "torchrun"], False),
        (["python", "-m", "torch.utils.collect_env"], False),
        (["tail", "-f", "torchrun.log"], False),
        (["vim", "torchrun"], False),
        (["grep", "torchrun"], False),
        (["python", "/home/a/accelerate/train.py"], False),
        (["python", "train.py", "torchrun"], False),
        (["python", "-c", "import torchrun"], False),
        (["python", "-m", "http.server"], False),
        (["python"], False),
        ([], False),
    ],
)
def test_an_agent_is_known_by_its_program(argv: list[str], is_agent: bool) -> None:
    assert ProcessInfo(2, 1, "python", tuple(argv), "me", True, 0.0, 0.0, {}).is_agent is is_agent


def test_a_training_that_hangs_is_told_and_not_touched(
    home: Path, trees: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glmstudio.doctor.checks import other_trainings

    spec = trees.spec(agent=True, children=[trees.spec(env={JOB: "x"})])
    trees.grow(spec)
    agent = trees.identity(spec)
    monkeypatch.setattr(other_trainings, "_SILENT", 0.2)
    monkeypatch.setattr(other_trainings, "_WATCH", 0.3)
    monkeypatch.setattr(other_trainings, "silence", lambda pid: 1000.0)
    time.sleep(0.3)
    result = next(r for r in diagnose(only=["proc.jobs"]).results if r.subject == str(agent.pid))
    assert (result.status, result.case, result.action) == ("info", "hung", "")
    assert f"`kill {agent.pid}`" in result.fix("en")
    assert agent.pid not in kinds()


LOADERS = """
import os, sys, time, torch
class Stuck(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, index):
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(300)
for _ in torch.utils.data.DataLoader(Stuck(), num_workers=1): pass
"""


def test_a_real_data_loader_whose_rank_was_killed(home: Path, spawn: Spawn, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(LOADERS)
    rank = spawn(str(script), str(tmp_path / "loader"), **{JOB: "x", "OMP_NUM_THREADS": "1"})
    until(lambda: (tmp_path / "loader").exists() and (tmp_path / "loader").read_text(), 60)
    loader = identify(int((tmp_path / "loader").read_text()))
    assert loader is not None
    rank.kill()
    rank.wait()
    assert psutil.Process(loader.pid).name() == LOADER
    (stale,) = [each for each in diagnose(only=["proc.stale"]).stale if each.identity == loader]
    assert stale.kind == "foreign_loader"
    assert [result.outcome for result in end_stale([stale.token])] == ["ended"]


def write_past(name: str, created: float, status: dict[str, Any]) -> None:
    write_json(paths().runs / name / "run.json", {"run_id": name, "created": created, "settings": {"steps": 5}})
    write_json(paths().runs / name / "status.json", status)


def test_the_last_run_tells_why_it_died(home: Path) -> None:
    def past() -> Any:
        (result,) = diagnose(only=["run.dirs"]).results
        return result

    assert past().status == "skipped"
    write_past("first", 1.0, {"state": "failed", "ended": 2.0, "problem": {"key": "runs.killed", "values": {}}})
    assert (past().status, past().case) == ("info", "died")
    assert past().what("en").startswith("The last run, “first”, did not end normally. ")
    assert past().fix("en").endswith("The end of its log can be opened on the Fine-tune page.")
    assert past().to_fact("zh")["values"]["problem"] == {"key": "runs.killed", "values": {}}
    write_past("second", 3.0, {"state": "finished", "ended": 4.0})
    assert past().fact("en") == "2 runs; the last one, “second”, did not fail."


# --- Ended for good --------------------------------------------------------------------------------------------------


def test_a_grandchild_in_a_session_of_its_own_goes_with_our_run(home: Path, trees: Trees) -> None:
    run_id = uuid.uuid4().hex
    spec = trees.spec(stubborn=True, children=[trees.spec(session=True, children=[trees.spec(session=True)])])
    trees.grow(spec, **{COOKIE: run_id})
    everyone = trees.all_of(spec)
    write_run("failed", run_id)
    (first,) = [each for each in diagnose(only=["proc.stale"]).stale if each.identity == everyone[0]]
    stages: list[str] = []
    (result,) = end_stale([first.token], polite=0.2, tell=stages.append)
    assert result.outcome == "ended"
    assert stages == ["looking", "asking", "killing", "proving"]
    assert [each for each in everyone if alive(each)] == []


REUSE = """
import os, subprocess, sys, time
from glmstudio.doctor import diagnose, end_stale
from glmstudio.system.process import identify
environment = {**os.environ, "TORCHELASTIC_RUN_ID": "x"}
def start():  # the number of an orphan: its parent leaves, and process 1 of this namespace adopts it
    leave = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'], stdout=subprocess.DEVNULL).pid)"
    return int(subprocess.check_output([sys.executable, "-S", "-c", leave], env=environment))
orphan = start()
(stale,) = diagnose(only=["proc.stale"]).stale
assert stale.identity.pid == orphan
os.kill(orphan, 9)
while identify(orphan) or os.path.exists(f"/proc/{orphan}"): time.sleep(0.01)
for _ in range(50):
    open("/proc/sys/kernel/ns_last_pid", "w").write(str(orphan - 2))  # its parent takes the number before
    stranger = start()
    if stranger == orphan: break
    os.kill(stranger, 9)
assert stranger == orphan
(second,) = diagnose(only=["proc.stale"]).stale
assert second.identity.pid == orphan and second.identity != stale.identity
(result,) = end_stale([stale.token])
print(result.outcome, identify(stranger) is not None)
"""


def test_a_number_that_was_given_to_another_process_between_listing_and_click(home: Path) -> None:
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", '"$@"; exit $?', "-",
         sys.executable, "-c", REUSE],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    # The stranger is stale, too, and yet not the one that was listed.
    assert done.stdout == "gone True\n", done.stderr


@pytest.mark.parametrize("seed", [0, 1, 2, 3, *map(slow, range(4, 30))])
def test_in_random_scenes_all_targets_end_and_no_bystander(seed: int, home: Path, trees: Trees) -> None:
    chance = random.Random(seed)
    job = {"env": {JOB: f"job{seed}"}, "session": True}

    def rank() -> dict[str, Any]:
        below = [trees.spec(comm=LOADER) for _ in range(chance.randrange(2))]
        below += [trees.spec(session=True, stubborn=chance.random() < 0.3) for _ in range(chance.randrange(2))]
        return trees.spec(**job, stubborn=chance.random() < 0.3, children=below)

    targets: list[Identity] = []
    bystanders: list[Identity] = []
    for _ in range(chance.randrange(1, 3)):  # strangers' trainings whose torchrun is killed; some are ticked, some not
        spec = trees.spec(agent=True, children=[rank() for _ in range(chance.randrange(1, 3))])
        agent = trees.grow(spec)
        members = trees.all_of(spec)[1:]
        agent.kill()
        agent.wait()
        (targets if chance.random() < 0.7 else bystanders).extend(members)
    for _ in range(chance.randrange(1, 3)):  # our own: dead ones go, live ones stay
        run_id, ends = uuid.uuid4().hex, chance.random() < 0.6
        spec = trees.spec(stubborn=chance.random() < 0.4, children=[rank() for _ in range(chance.randrange(2))])
        trees.grow(spec, **{COOKIE: run_id})
        members = trees.all_of(spec)
        if ends:
            write_run(chance.choice(["failed", "finished"]), run_id)
        else:
            write_run("running", run_id, supervisor=members[0].to_json())
        (targets if ends else bystanders).extend(members)
    healthy = trees.spec(agent=True, comm=chance.choice(["", "pt_elastic"]), children=[rank()])
    trees.grow(healthy)
    plain = trees.spec(children=[trees.spec()])
    trees.grow(plain, **({COOKIE: uuid.uuid4().hex} if chance.random() < 0.5 else {}))
    bystanders += [*trees.all_of(healthy), *trees.all_of(plain)]

    stale = diagnose(only=["proc.stale"]).stale
    assert {each.identity for each in stale} >= set(targets)
    chosen = [each.token for each in stale if each.identity in targets]
    results = end_stale(chosen, polite=0.1)
    assert {result.outcome for result in results} <= {"ended", "gone"}
    assert [each for each in targets if alive(each)] == []
    assert [each for each in bystanders if not alive(each)] == []


def test_the_stand_ins_end_with_the_test() -> None:
    """What a test leaves would be the next one's bystander."""
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if "node.py" in " ".join(p.info["cmdline"] or [])]
    assert left == [], [os.readlink(f"/proc/{pid}/cwd") for pid in left]
