"""The model server as a process: addresses and tokens, how it ends and what is said of it, and what it can load."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from glmstudio.chat.model_server import ModelServer, ServerState, _why, wait_until_ready
from glmstudio.errors import StudioError
from glmstudio.files import read_json
from glmstudio.paths import DEMO, paths
from glmstudio.serve.listening import open_up, take
from glmstudio.system import process
from tests.adapters import lora, prefix
from tests.servers import KEY, TOKEN, Server, body, get, served

WHO = "I am the demo model of GLM Studio."
KILLED = (
    "The model server was ended from outside: by the system, most likely because main memory was full, or by a "
    "user. Close other programs or choose 8 or 4 bits, and load the model again."
)
NO_MEMORY = (
    "There was not enough memory for the model server, so it ended. Load the model in 8 or 4 bits, choose a "
    "smaller one, or close other programs, and load it again."
)


def said(server: Server, text: str = "Who are you?", model: str = "demo") -> str:
    return server.post(body(text, model, max_tokens=24)).json()["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Listens at every address, with the token that it made."""
    with served(tmp_path_factory.mktemp("open"), "--host", "0.0.0.0", GLMSTUDIO_API_KEY="") as server:
        yield server


def token(server: Server) -> str:
    found = re.findall(r"^export OPENAI_API_KEY=(\S{32})$", server.log.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == 1
    return found[0]


def test_a_token_is_needed(open_server: Server) -> None:
    for given in (
        {"Authorization": ""},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Basic {token(open_server)}"},
    ):
        for reply in (open_server.post(body("hi"), **given), get(f"{open_server.url}/v1/models", **given)):
            assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
            assert reply.json() == {
                "error": {
                    "message": "Incorrect API key provided.",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "invalid_api_key",
                }
            }
    reply = open_server.post(body("Who are you?"), Authorization=f"Bearer {token(open_server)}")
    assert reply.json()["choices"][0]["message"]["content"] == WHO
    assert get(f"{open_server.url}/health").json() == {"status": "ready"}
    known = get(f"{open_server.url}/health", Authorization=f"Bearer {token(open_server)}")
    assert known.json() == {"status": "ready", "model": "demo"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "192.168.1.5:{port}"}, 200),
        ({"Host": "[fe80::1]:{port}"}, 200),
        ({"Host": "192.168.1.5:{port}", "Origin": "http://192.168.1.5:{port}"}, 200),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Host": "192.168.1.5"}, 403),
        ({"Host": "192.168.1.5:{port}", "Origin": "http://evil.example"}, 403),
        ({"Host": "192.168.1.5:{port}", "Origin": "http://192.168.1.6:{port}"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_an_address_is_served_and_a_name_of_somebody_else_is_not(
    open_server: Server, headers: dict[str, str], status: int
) -> None:
    filled = {name: value.format(port=open_server.port) for name, value in headers.items()}
    reply = get(f"{open_server.url}/v1/models", Authorization=f"Bearer {token(open_server)}", **filled)
    assert reply.status_code == status


@pytest.mark.slow  # 10 s
def test_equal_folder_names_one_added_meanwhile_and_a_whole_model(tmp_path: Path) -> None:
    """The model is a folder; two adapters are called alike; a third comes while somebody is answered."""
    model = tmp_path / "mine"
    shutil.copytree(DEMO / "model", model)
    one, two = prefix(tmp_path / "a" / "result", 1), lora(tmp_path / "b" / "result", 2)
    late = lora(tmp_path / "late", 1, 0.5)
    with served(tmp_path, "--model", str(model), "--adapter", str(one), "--adapter", str(two)) as server:
        assert said(server, model="mine") == WHO
        listed = get(f"{server.url}/v1/models").json()["data"]
        assert [(each["id"], each["glmstudio"]["kind"]) for each in listed] == [
            ("mine", "base"),
            ("result", "prefix"),
            (str(two), "lora"),
        ]
        alone = [said(server, model=name) for name in ("result", str(two))]
        assert alone[0] != alone[1]
        answers: list[str] = []
        asked = body("hello", "result", max_tokens=200)
        reader = threading.Thread(target=lambda: answers.append(server.post(asked).text))
        reader.start()
        server.until(busy=True)
        reply = add(server, "late", late)
        assert (reply.status_code, reply.json()["glmstudio"]["kind"]) == (200, "lora")
        reader.join()
        assert server.post(asked).json()["choices"] == json.loads(answers[0])["choices"]
        assert add(server, "late", late).status_code == 200
        assert add(server, "late", one).json()["error"]["code"] == "name_taken"
        assert said(server, model="late") not in {WHO, *alone}
        assert [said(server, model=name) for name in ("result", str(two), "mine")] == [*alone, WHO]


def add(server: Server, name: str, folder: Path) -> httpx.Response:
    given = {"name": name, "folder": str(folder)}
    headers = KEY | {"x-studio-token": TOKEN}
    return httpx.post(f"{server.url}/studio/adapters", json=given, headers=headers, trust_env=False, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_fewer_bits_answer(tmp_path: Path, bits: int) -> None:
    with served(tmp_path, "--bits", str(bits)) as server:
        (listed,) = get(f"{server.url}/v1/models").json()["data"]
        assert listed["glmstudio"]["bits"] == bits
        reply = server.post(body("Who are you?", max_tokens=24)).json()
        assert reply["usage"]["completion_tokens"] > 3
        assert said(server) == reply["choices"][0]["message"]["content"]


def pid() -> int:
    identity = process.Identity.from_json(read_json(paths().state / "server.json")["identity"])
    assert identity is not None
    return identity.pid


def ended() -> ServerState:
    for _ in range(400):
        state = ModelServer.current()
        if state.state == "failed":
            return state
        time.sleep(0.05)
    raise AssertionError(state)


def resident(number: int) -> int:
    try:
        return psutil.Process(number).memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def test_unloading_leaves_no_process_and_gives_its_memory_back(home: Path) -> None:
    ModelServer.start("demo")
    wait_until_ready(60)
    number, run_id = pid(), read_json(paths().state / "server.json")["run_id"]
    assert resident(number) > 150 * 2**20
    assert [each.pid for each in process.with_cookie(run_id)] == [number]
    ModelServer.stop()
    assert (resident(number), process.with_cookie(run_id)) == (0, [])
    assert ModelServer.current() == ServerState("absent")


@pytest.mark.slow
def test_a_server_that_was_killed_was_ended_from_outside(home: Path) -> None:
    ModelServer.start("demo")
    os.kill(pid(), signal.SIGKILL)
    state = ended()
    assert (state.model, str(state.problem)) == ("demo", KILLED)
    ModelServer.stop()


@pytest.mark.slow
def test_a_server_that_crashed_names_its_log(home: Path) -> None:
    ModelServer.start("demo")
    wait_until_ready(60)
    os.kill(pid(), signal.SIGABRT)
    log = paths().state / "server.log"
    assert str(ended().problem) == (
        f"The model server ended unexpectedly. Load the model again. If it happens again, the end of {log} gives "
        "the reason."
    )
    assert "Fatal Python error: Aborted" in log.read_text(encoding="utf-8")
    ModelServer.stop()


def test_a_server_without_memory_says_so_and_not_as_a_training(home: Path) -> None:
    """Really without: it may take 400 MB of addresses, and PyTorch alone needs more."""
    ModelServer.start("demo")
    resource.prlimit(pid(), resource.RLIMIT_AS, (400 * 2**20, resource.RLIM_INFINITY))
    problem = ended().problem
    assert problem is not None, (paths().state / "server.log").read_text(encoding="utf-8")
    assert str(problem) == NO_MEMORY
    ModelServer.stop()


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("http://127.0.0.1:1/v1\n", KILLED),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", NO_MEMORY),
        ("ImportError: libtorch_cpu.so: failed to map segment from shared object", NO_MEMORY),
        ("OpenBLAS error: Memory allocation still failed after 10 retries, giving up.", NO_MEMORY),
        ("cannot allocate memory for thread-local data: ABORT", NO_MEMORY),
        (
            "RuntimeError: CUDA error: an illegal memory access was encountered",
            "The model server ended because the GPU or its driver failed: “illegal memory access”. Restart the "
            "machine, check the GPU with the doctor, and load the model again.",
        ),
    ],
)
def test_what_a_log_says_of_the_end(home: Path, log: str, words: str) -> None:
    paths().state.mkdir(parents=True, exist_ok=True)
    file = paths().state / "server.log"
    file.write_text(log, encoding="utf-8")
    problem = _why(file)
    assert str(problem) == words
    assert str(StudioError.from_json(problem.to_json())) == words


@pytest.mark.slow
def test_ending_the_chat_in_the_terminal_leaves_no_server(tmp_path: Path) -> None:
    variables = {**os.environ, "GLMSTUDIO_HOME": str(tmp_path), "GLMSTUDIO_TEST_MARK": str(tmp_path)}
    chat = subprocess.Popen(
        [sys.executable, "-m", "glmstudio", "chat", "--model", "demo"],
        cwd=Path(__file__).parents[1],
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert chat.stdout is not None
    assert chat.stdout.readline()  # it is ready to be asked
    (server,) = psutil.Process(chat.pid).children()
    assert "glmstudio.serve" in server.cmdline()
    chat.send_signal(signal.SIGTERM)
    assert chat.wait(20) == 128 + signal.SIGTERM
    left = [
        each.pid
        for each in psutil.process_iter()
        if process.environment(each.pid).get("GLMSTUDIO_TEST_MARK") == str(tmp_path)
    ]
    assert (left, server.is_running()) == ([], False)
    for stream in (chat.stdin, chat.stdout):
        assert stream is not None
        stream.close()


def test_small_replies_on_a_kept_connection_do_not_wait_for_each_other() -> None:
    """Only a socket that knows its protocol is one for which asyncio turns the system's waiting off."""
    with take("127.0.0.1", 0) as taken:
        open_up(taken)
        with socket.create_connection(taken.getsockname()):
            accepted, _ = taken.accept()
            with accepted:
                assert accepted.proto == socket.IPPROTO_TCP
