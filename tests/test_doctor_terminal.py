"""Leftovers in the terminal: `doctor --end` ends exactly what the doctor lists, `doctor --fix` asks for each."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from glmstudio.cli.leftovers import ask_for_each
from glmstudio.doctor import StaleProcess, diagnose, end_again
from glmstudio.doctor.diagnosis import chosen
from glmstudio.doctor.engine.check import CHECKS
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.paths import paths
from glmstudio.system.process import COOKIE, Identity, alive, identify
from glmstudio.system.process_table import JOB, is_stopped

ROOT = Path(__file__).parents[1]
Spawn = Callable[..., "subprocess.Popen[str]"]
Orphan = Callable[..., Identity]
SLEEP = "import time; time.sleep(120)"
# A launcher with one worker, as torchrun is.
LAUNCH = f"""
import os, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-S", "-c", {SLEEP!r}], env={{**os.environ, {JOB!r}: "x"}}, start_new_session=True)
print(worker.pid, flush=True)
time.sleep(120)
"""


def doctor(*words: str, lang: str = "C.UTF-8", user: int | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glmstudio", "doctor", *words],
        cwd=ROOT, env=os.environ | {"LC_ALL": lang}, stdin=subprocess.DEVNULL, capture_output=True, text=True, user=user,
    )  # fmt: skip


def listed(*of: Identity) -> list[StaleProcess]:
    return [each for each in diagnose(only=["proc.stale"]).stale if each.identity in of]


@pytest.fixture
def launched(spawn: Spawn, tmp_path: Path) -> tuple[Identity, Identity]:
    """A training that is well: its launcher and its worker."""
    (tmp_path / "torchrun").write_text(LAUNCH)
    agent = spawn("-S", str(tmp_path / "torchrun"))
    assert agent.stdout is not None
    known = identify(agent.pid), identify(int(agent.stdout.readline()))
    assert known[0] is not None
    assert known[1] is not None
    return known


def our_orphan(spawn: Spawn, name: str = "mine") -> Identity:
    """What is left of a run of this studio whose supervisor is gone."""
    cookie = uuid.uuid4().hex
    left = identify(spawn("-S", "-c", SLEEP, **{COOKIE: cookie}).pid)
    assert left is not None
    gone = Identity(left.boot_id, left.pid, left.started - 1)
    write_json(paths().runs / name / "run.json", {"run_id": cookie, "supervisor": gone.to_json()})
    write_json(paths().runs / name / "status.json", {"state": "running"})
    return left


# --- doctor --list, doctor CHECK ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["C.UTF-8", "zh_CN.UTF-8"])
def test_all_checks_are_listed_with_what_they_look_at(home: Path, lang: str) -> None:
    data = json.loads(doctor("--list", "--json", lang=lang).stdout)
    assert {each["name"] for each in data} == {check.id for check in CHECKS}
    assert all(set(each) == {"name", "title", "about", "family", "before_start", "deep"} for each in data)
    text = doctor("--list", lang=lang)
    assert (text.returncode, text.stderr) == (0, "")
    lines = [line.split(maxsplit=1) for line in text.stdout.splitlines() if line.startswith("  ")]
    assert [line[0] for line in lines] == [each["name"] for each in data]
    assert all(line[1].startswith(each["about"]) for line, each in zip(lines, data, strict=True))
    assert [each["name"] for each in json.loads(doctor("--list", "net", "--json").stdout)] == [
        "net.hostname", "net.localhost", "net.port",
    ]  # fmt: skip


def test_some_checks_are_made_by_name_and_each_is_told(home: Path) -> None:
    report = json.loads(doctor("py.version", "net.port", "--json").stdout)
    assert [fact["id"] for fact in report["facts"]["checks"]] == ["py.version", "net.port", "net.port"]
    assert set(report) == {"schema", "summary", "findings", "facts"}
    done = doctor("py.version", lang="zh_CN.UTF-8")
    assert done.stdout.startswith("一切正常：检查了 1 项，无需处理。\n\n  Python: ")
    none = doctor("model.code").stdout
    assert none.startswith("None of these checks applies to this machine.\n")
    assert none.endswith(": Does not apply to this machine.\n")


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("net.prot", "net.port"), ("proc.stail", "proc.stale"), ("nett", "net")]
)
@pytest.mark.parametrize("more", [(), ("--list",), ("--json",)])
def test_a_check_that_there_is_not_names_the_nearest(
    home: Path, wrong: str, nearest: str, more: tuple[str, ...]
) -> None:
    done = doctor("py.version", wrong, *more)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: The doctor has no check {wrong}; the nearest is {nearest}.\n")
    assert f"`python launcher.py doctor {nearest}`" in done.stderr


def test_what_takes_long_is_made_only_where_it_is_named() -> None:
    deep = {check.id for check in CHECKS if check.deep}
    assert deep
    for check in (check for check in CHECKS if check.deep):
        assert check in chosen([check.id])
        assert check in chosen([check.family], deep=True)
        assert check not in chosen([check.family])


# --- doctor --end ----------------------------------------------------------------------------------------------------


def test_a_leftover_is_ended_by_its_number_and_others_are_not(home: Path, orphan: Orphan) -> None:
    left, other = (orphan("-S", "-c", SLEEP, **{JOB: "x"}) for _ in range(2))
    done = doctor("--end", str(left.pid), str(left.pid))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"\nProcess {left.pid} has ended.\n")
    assert done.stdout.count("has ended") == 1
    assert not alive(left)
    assert alive(other)


def test_a_suspended_training_is_ended_by_its_numbers(home: Path, launched: tuple[Identity, Identity]) -> None:
    for each in launched:
        os.kill(each.pid, signal.SIGSTOP)
        while not is_stopped(each.pid):
            time.sleep(0.01)
    done = doctor("--end", *(str(each.pid) for each in launched))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(map(alive, launched))


def test_whatever_is_no_leftover_is_refused_in_words(
    home: Path, spawn: Spawn, orphan: Orphan, launched: tuple[Identity, Identity]
) -> None:
    agent, worker = launched
    stranger = spawn("-S", "-c", SLEEP)
    cookie = uuid.uuid4().hex
    run = identify(spawn("-S", "-c", SLEEP, **{COOKIE: cookie}).pid)
    assert run is not None
    write_json(paths().runs / "well" / "run.json", {"run_id": cookie, "supervisor": run.to_json()})
    write_json(paths().runs / "well" / "status.json", {"state": "running"})
    gone = spawn("-S", "-c", "")
    gone.wait()
    left = orphan("-S", "-c", SLEEP, **{JOB: "x"})
    pids = [agent.pid, worker.pid, stranger.pid, run.pid, os.getpid(), 1, -1, gone.pid, left.pid]

    done = doctor("--end", *map(str, pids), "--json")
    outcomes = {each["pid"]: each["outcome"] for each in json.loads(done.stdout)}
    assert outcomes.pop(1) in {"no_leftover", "other_user"}
    assert outcomes == {
        agent.pid: "training", worker.pid: "training", stranger.pid: "no_leftover", run.pid: "run",
        os.getpid(): "no_leftover", -1: "nobody", gone.pid: "nobody", left.pid: "ended",
    }  # fmt: skip
    assert done.returncode == 1
    assert all(map(alive, (agent, worker, run)))
    assert stranger.poll() is None


@pytest.mark.parametrize(
    ("lang", "said"),
    [
        ("C.UTF-8", "Process {pid} belongs to a training that is running normally, and was left alone."),
        ("zh_CN.UTF-8", "没有动进程 {pid}：它属于一个正常运行的训练。"),
    ],
)
def test_a_refusal_is_in_the_language_of_the_terminal(
    lang: str, said: str, home: Path, launched: tuple[Identity, Identity]
) -> None:
    done = doctor("--end", str(launched[1].pid), lang=lang)
    assert done.returncode == 1
    assert done.stdout.startswith(said.format(pid=launched[1].pid))


AS_NOBODY = """
import os, sys
from glmstudio.doctor import diagnose, end_numbers
diagnose(only=["proc.stale"])  # everything is imported before the rights are given up
os.setgroups([]); os.setgid(65534); os.setuid(65534)
(result,) = end_numbers([int(sys.argv[1])])
print(result.outcome, result.text("en"))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_a_leftover_of_another_user_is_refused(home: Path, orphan: Orphan) -> None:
    left = orphan("-S", "-c", SLEEP, **{JOB: "x"})
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, str(left.pid)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith(f"other_user Process {left.pid} belongs to another user (root)"), done.stderr
    assert alive(left)


def test_what_was_listed_long_ago_is_ended_only_as_the_same_process_for_the_same_reason(
    home: Path, orphan: Orphan, spawn: Spawn
) -> None:
    left, ours = orphan("-S", "-c", SLEEP, **{JOB: "x"}), our_orphan(spawn)
    old = {each.identity: each for each in listed(left, ours)}
    about = json.loads((paths().runs / "mine" / "run.json").read_text())
    write_json(paths().runs / "mine" / "run.json", about | {"supervisor": ours.to_json()})  # somebody took it over
    stranger = StaleProcess("old", Identity(left.boot_id, left.pid, left.started - 1), "foreign_orphan", "", 0.0)
    assert [each.outcome for each in end_again([stranger, old[ours], old[left]])] == ["gone", "changed", "ended"]
    assert alive(ours)


# --- doctor --fix ----------------------------------------------------------------------------------------------------


def in_a_terminal(answers: dict[int, str], *words: str) -> str:
    """What `doctor` says on a terminal where somebody answers for these processes, and No to all else."""
    mine, theirs = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "glmstudio", "doctor", *words],
        cwd=ROOT, env=os.environ | {"LC_ALL": "C.UTF-8"}, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    said = answered = ""
    with contextlib.suppress(OSError):  # how the end of a terminal reads
        while piece := os.read(mine, 4096).decode(errors="replace"):
            said += piece
            if said.endswith("[y/N] ") and said != answered:
                asked = re.findall(r"End process (\d+)\? \[y/N\] $", said)
                os.write(mine, f"{answers.get(int(asked[0]), 'n') if asked else 'n'}\n".encode())
                answered = said
    child.wait()
    os.close(mine)
    return said


def test_each_leftover_is_asked_for_and_only_a_yes_ends_it(home: Path, orphan: Orphan, spawn: Spawn) -> None:
    left, kept = (orphan("-S", "-c", SLEEP, **{JOB: "x"}) for _ in range(2))
    ours = our_orphan(spawn)
    said = in_a_terminal({left.pid: "y", kept.pid: "", ours.pid: "y"}, "--fix")
    assert f"Process {left.pid} has ended." in said
    assert f"Process {ours.pid} has ended." in said
    assert (alive(left), alive(kept), alive(ours)) == (False, True, False)
    assert said.index(f"End process {ours.pid}?") < said.index(f"End process {left.pid}?")
    before = said[: said.index(f"End process {kept.pid}?")]
    assert "Part of a training whose launcher (torchrun or similar) is gone." in before
    assert f"Left alone, because nobody confirmed that they are over: {kept.pid}" not in said, "somebody said no"


def test_without_a_terminal_nobody_is_asked_and_nothing_ends(
    home: Path, orphan: Orphan, spawn: Spawn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    left, ours = orphan("-S", "-c", SLEEP, **{JOB: "x"}), our_orphan(spawn)
    ask_for_each(listed(left), yes=False)
    assert capsys.readouterr().out == (
        f"\nLeft alone, because nobody confirmed that they are over: {left.pid}. To end them: `python launcher.py "
        f"doctor --end {left.pid}`\n"
    )
    with pytest.raises(StudioError, match="must be confirmed"):
        ask_for_each(listed(left, ours), yes=False)
    assert alive(left)
    assert alive(ours)


def test_yes_stands_for_what_this_studio_left_behind_and_for_nothing_else(
    home: Path, orphan: Orphan, spawn: Spawn, capsys: pytest.CaptureFixture[str]
) -> None:
    left, ours = orphan("-S", "-c", SLEEP, **{JOB: "x"}), our_orphan(spawn)
    ask_for_each(listed(left, ours), yes=True)
    assert (alive(left), alive(ours)) == (True, False)
    assert f"--end {left.pid}`" in capsys.readouterr().out


def test_the_report_lists_them_and_the_form_of_the_json_is_as_before(home: Path, orphan: Orphan) -> None:
    left = orphan("-S", "-c", SLEEP, **{JOB: "x"})
    said = doctor().stdout
    assert "\nLeftover processes and suspended trainings:\n" in said
    assert f"\n  {left.pid}  {' '.join(psutil.Process(left.pid).cmdline())}\n      Part of a training" in said
    report = json.loads(doctor("--json").stdout)
    assert set(report) == {"schema", "summary", "findings", "facts"}
    assert report["schema"] == 2
    (told,) = [each for each in report["facts"]["stale"] if each["pid"] == left.pid]
    before = {"pid", "kind", "command", "age_s", "ticked", "user", "busy", "silent_s", "gpu_mib", "why"}
    assert set(told) == before | {"suspended", "suspended_s"}
