"""The control service of a run of several machines: who may join, what is believed, what everybody is told."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glmstudio.cluster import member, membership
from glmstudio.cluster.control_server import BODY, CODE_HEADER, ControlServer, RunOffer
from glmstudio.cluster.join_code import new_code, read_code, write_code
from glmstudio.cluster.member import why_closed, why_missing
from glmstudio.cluster.membership_events import End, Look
from glmstudio.cluster.scripts.shell_scripts import join_line, shell_script, slurm_script
from glmstudio.cluster.view import read_cluster
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.rundir.machines import Cluster, Machine
from glmstudio.rundir.run import Run
from glmstudio.system.process import free_port
from glmstudio.words import LANGUAGES
from tests.run_helpers import problem

CODE = "c" * 32
FACTS = {"program": "1 (a)", "torch": "2", "settings": "s", "data": "d", "model": "m"}
CLUSTER = Cluster(
    (Machine("127.0.0.1", 1, "127.0.0.1"), Machine("two", 2, "127.0.0.2"), Machine("three", 1, "127.0.0.3")), least=2
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    cluster = Cluster(CLUSTER.machines, port=free_port() - 1, least=2)
    write_json(tmp_path / "run.json", {"cluster": cluster.to_json()})
    (tmp_path / "join.code").write_text(CODE)
    found = ControlServer(cluster, RunOffer("run", "job", {"steps": 5}, FACTS), tmp_path, CODE)
    found.open()
    yield found
    found.close()


@pytest.fixture
def ear() -> Iterator[int]:
    """A port at which the machine that joins can be reached."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.2", 0))
        listening.listen()
        yield listening.getsockname()[1]


def send(
    server: ControlServer, path: str, body: Any, *, code: str = CODE, ip: str = "127.0.0.2"
) -> tuple[int, dict[str, Any]]:
    line = http.client.HTTPConnection("127.0.0.1", server.cluster.control, timeout=5, source_address=(ip, 0))
    line.request("POST", path, body if isinstance(body, (bytes, str)) else json.dumps(body), {CODE_HEADER: code})
    answer = line.getresponse()
    found = answer.status, json.loads(answer.read())
    line.close()
    return found


def refused(server: ControlServer, path: str, body: Any, **how: Any) -> StudioError:
    status, found = send(server, path, body, **how)
    assert status >= 400
    error = StudioError.from_json(found["problem"])
    assert all(error.what(lang) and error.fix(lang) for lang in LANGUAGES)
    return error


def joined(server: ControlServer, ear: int, token: str = "t" * 32, **facts: str) -> dict[str, Any]:
    message = {"token": token, "facts": FACTS | facts, "host": "host2\x1b[31m\n", "listens": ear}
    status, answer = send(server, "/join", message)
    assert status == 200, answer
    return answer


def test_only_who_has_the_code_is_listened_to(server: ControlServer) -> None:
    for code in ("", "wrong", CODE + "c", "ü"):
        assert refused(server, "/join", {}, code=code.encode("latin-1").decode("latin-1")).key == "cluster.wrong_code"


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "5", "null", "[" * 5000, b"\xff\xfe"],
    ids=["empty", "half", "list", "number", "null", "deep", "bytes"],
)
def test_what_is_no_message_is_refused(server: ControlServer, body: Any) -> None:
    assert refused(server, "/news", body).key == "cluster.not_understood"


@pytest.mark.parametrize("length", [str(BODY + 1), "-1", "x", "9" * 30])
def test_a_message_of_no_good_length_is_not_read(server: ControlServer, length: str) -> None:
    with socket.create_connection(("127.0.0.1", server.cluster.control), 5) as line:
        line.sendall(f"POST /news HTTP/1.0\r\n{CODE_HEADER}: {CODE}\r\nContent-Length: {length}\r\n\r\n".encode())
        assert line.recv(64).startswith(b"HTTP/1.0 400 ")


def test_a_machine_is_known_by_its_address_or_says_its_number(server: ControlServer) -> None:
    token = {"token": "t" * 32}
    status, answer = send(server, "/join", token)
    assert (status, answer["machine"], answer["run"], answer["settings"]) == (200, 2, "run", {"steps": 5})
    assert send(server, "/join", token | {"machine": 3})[1]["machine"] == 3
    assert refused(server, "/join", token, ip="127.0.0.9").key == "cluster.not_listed"
    for number in (0, 1, 4, -1):
        assert refused(server, "/join", token | {"machine": number}).key == "cluster.no_number"
    assert refused(server, "/other", token).key == "cluster.not_understood"
    assert refused(server, "/join", {"token": "short"}).key == "cluster.number_taken"


@pytest.mark.parametrize("name", FACTS)
def test_a_machine_that_differs_is_refused(server: ControlServer, ear: int, name: str) -> None:
    error = refused(server, "/join", {"token": "t" * 32, "facts": FACTS | {name: "other"}, "listens": ear})
    assert error.key == "cluster.differs"
    assert error.what().endswith(f": other there, {FACTS[name]} on the first machine.")
    assert server.state.members[1].state == "refused"


def test_a_machine_that_cannot_be_reached_is_refused(server: ControlServer) -> None:
    for port in (9, None, "x", 70000, True):
        error = refused(server, "/join", {"token": "t" * 32, "facts": FACTS, "listens": port})
        assert error.key == "cluster.unreachable_from_first"


def test_who_joined_waits_goes_and_is_told_the_end(server: ControlServer, ear: int, tmp_path: Path) -> None:
    assert joined(server, ear)["order"] == "wait"
    assert server.state.members[1].host == "host2[31m"
    token = {"token": "t" * 32}
    assert send(server, "/news", token | {"state": "joined"})[1]["order"] == "wait"
    assert server.handle(Look(idle=True)) == ()
    assert send(server, "/news", token | {"state": "joined"})[1]["order"] == "go"
    hostile = {"state": "../../x", "memory": "1e999", "log": "line\n", "problem": {"key": "no.such"}}
    assert send(server, "/news", token | hostile)[0] == 200
    assert (server.state.members[1].state, server.state.members[1].memory) == ("joined", 0)
    assert (tmp_path / "machines/2/train.log").read_text() == "line\n"
    send(server, "/news", token | {"state": "failed", "problem": {"key": "no.such"}, "fatal": "yes"})
    assert (server.state.members[1].problem.key, server.state.members[1].fatal) == ("cluster.broke", False)  # type: ignore[union-attr]
    assert server.state.members[1].admitted is False
    assert refused(server, "/news", {"token": "u" * 32, "machine": 2}).key == "cluster.number_taken"
    server.handle(End("finished"))
    assert send(server, "/news", token | {"state": "training"})[1]["outcome"] == "finished"
    assert refused(server, "/join", token | {"machine": 3}).key == "cluster.run_over"
    send(server, "/news", token | {"state": "gone"})
    server.write(at_once=True)
    view = read_cluster(Run("run", tmp_path))
    assert view is not None
    assert [each.state for each in view.machines] == ["joined", "gone", "missing"]
    assert view.left_behind == []


def test_who_falls_silent_is_lost_and_has_to_join_again(
    server: ControlServer, ear: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(server, ear)
    monkeypatch.setattr(membership, "SILENT", 0.1)
    server.handle(Look())
    assert server.state.members[1].state == "joined"
    time.sleep(0.15)
    server.handle(Look())
    assert server.state.members[1].state == "lost"
    assert send(server, "/news", {"token": "t" * 32, "state": "training"})[1] == {"order": "join"}
    joined(server, ear, token="u" * 32)
    assert server.state.members[1].state == "joined"


def test_a_log_is_kept_up_to_a_size(
    server: ControlServer, ear: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(server, ear)
    monkeypatch.setattr(membership, "LOG", 50)
    for _ in range(20):
        send(server, "/news", {"token": "t" * 32, "log": "0123456789"})
    assert (tmp_path / "machines/2/train.log").stat().st_size == 60


def test_the_control_port_is_taken(server: ControlServer, tmp_path: Path) -> None:
    second = ControlServer(server.cluster, RunOffer("run", "job", {}, FACTS), tmp_path, CODE)
    assert problem(second.open).key == "cluster.control_taken"


def test_why_a_machine_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member, "_PROBE", 0.2)
    assert why_closed("127.0.0.1", free_port()) == "refused"
    assert why_closed("255.255.255.255", 9) == "unreachable"
    with socket.socket() as full:  # nobody takes what waits there, so it answers to no more
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.create_connection(full.getsockname()) for _ in range(1)]
        assert why_closed(*full.getsockname(), 0.2) == "silent"
        for each in waiting:
            each.close()
    missing = member.Member(2, Machine("two", 1, "127.0.0.2"))
    assert why_missing(missing, free_port()).what() == "Machine 2 (two) at 127.0.0.2 is up, but has not joined."


def test_a_code_is_its_owner_s_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLMSTUDIO_JOIN_CODE", raising=False)
    write_code(tmp_path)
    assert (tmp_path / "join.code").stat().st_mode & 0o777 == 0o600
    assert len(read_code(tmp_path)) == 48
    assert new_code() != new_code()
    assert problem(read_code, tmp_path / "no").key == "cluster.no_code"
    for weak in ("short", "-" * 20, "x" * 20 + "\n", "x" * 20 + "$"):
        monkeypatch.setenv("GLMSTUDIO_JOIN_CODE", weak)
        assert problem(write_code, tmp_path / "no").key == "cluster.weak_code"


HOSTILE = 'it\'s $(touch pwned) `id` "x"\n*; rm -rf ~'


def test_a_shell_script_says_each_word_as_it_is(tmp_path: Path) -> None:
    first = ["python", "launcher.py", "train", HOSTILE, *CLUSTER.flags]
    assert CLUSTER.flags == ["--machines", "127.0.0.1*1,two*2,three*1", "--least", "2"]
    text = shell_script(CLUSTER, first, CODE).replace("python launcher.py", "printf '%s\\0' $GLMSTUDIO_JOIN_CODE")
    script = tmp_path / "run.sh"
    script.write_text(text.replace("exec ", ""))
    said = {number: subprocess.run(["bash", script, number], capture_output=True, text=True) for number in "123"}
    assert said["1"].stdout.split("\0") == [CODE, *first[2:], "--follow", ""]
    assert said["3"].stdout.split("\0")[:-1] == [CODE, "join", "127.0.0.1:29401", "--machine", "3"]
    assert subprocess.run(["bash", script, "4"], capture_output=True).returncode == 2
    assert subprocess.run(["bash", script], capture_output=True).returncode != 0
    assert not list(tmp_path.glob("pwned"))
    line = f"GLMSTUDIO_JOIN_CODE={CODE} python launcher.py join 127.0.0.1:29401 --machine 2"
    assert join_line(CLUSTER, 2, CODE) == line


SLURM = """
scontrol() { printf '%s\\n' alpha beta gamma; }
srun() { shift; SLURM_NODEID=$NODE "$@"; }
python() { printf '%s\\0' "$@"; }
export -f python
"""


def test_a_slurm_script_puts_the_names_in_when_it_runs(tmp_path: Path) -> None:
    text = slurm_script(CLUSTER, ["python", "launcher.py", "train", HOSTILE], CODE)
    script = tmp_path / "run.sh"
    script.write_text(text)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert "#SBATCH --nodes=3\n#SBATCH --ntasks-per-node=1\n" in text
    script.write_text(SLURM + text.replace("exec ", ""))
    environment = {"PATH": "/usr/bin:/bin", "SLURM_JOB_NODELIST": "x"}

    def said(node: str) -> list[str]:
        done = subprocess.run(["bash", script], env=environment | {"NODE": node}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\0")

    machines = ["--machines", "alpha*1,beta*1,gamma*1", "--follow"]
    assert said("0")[:7] == ["launcher.py", "train", HOSTILE, "--least", "2", *machines[:2]]
    assert said("2")[:-1] == ["launcher.py", "join", "alpha:29401", "--machine", "3"]


def test_a_run_of_one_machine_has_no_machines(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"settings": {}})
    assert read_cluster(Run("run", tmp_path)) is None
