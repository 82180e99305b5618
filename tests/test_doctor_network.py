"""Proxies, leaked settings, listening places and hubs, with real servers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from glmstudio.doctor import diagnose
from glmstudio.doctor.engine.report import Finding
from glmstudio.files import write_json
from glmstudio.system.process import belongs_to_a_training, identify


def one(name: str) -> Finding:
    (result,) = diagnose(only=[name]).results
    return result


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def test_a_proxy_that_catches_this_machine(no_proxy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one("proxy.localhost").case == "ok"
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy.example:3128")
    result = one("proxy.localhost")
    assert (result.status, result.case) == ("info", "caught")
    assert "secret" not in json.dumps(result.to_fact("en"))
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert one("proxy.localhost").case == "exempt"
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    assert one("proxy.localhost").case == "socks"


def test_settings_of_another_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    result = one("env.leaks")
    assert result.status == "warning"
    assert result.fact("en") == "Still set: RANK TORCHELASTIC_RUN_ID"


def test_which_variables_are_a_trainings() -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "ROLE_WORLD_SIZE", "MASTER_ADDR", "PET_NNODES", "TORCHELASTIC_RUN_ID")
    assert all(map(belongs_to_a_training, names))
    others = ("PATH", "RANKING", "OMP_NUM_THREADS", "PETER", "MASTER", "GLMSTUDIO_RUN_ID", "CUDA_VISIBLE_DEVICES")
    assert not any(map(belongs_to_a_training, others))


LISTEN = "import socket, sys; s = socket.create_server((sys.argv[1], 0)); print(flush=True); sys.stdin.read()"


@pytest.mark.parametrize(("address", "case"), [("127.0.0.1", "ok"), ("0.0.0.0", "studio")])
def test_a_studio_that_others_can_reach(address: str, case: str, home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        me = identify(program.pid)
        assert me is not None
        write_json(home / "state" / "studio.json", {"port": 1, "identity": me.to_json()})
        assert one("launcher.exposure").case == case
        program.communicate()
    assert one("launcher.exposure").case == "ok"


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(no_proxy: None) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_hubs_that_answer_and_do_not(hub: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = one("hub.reach")
    assert (result.status, result.case) == ("info", "offline")
    assert result.what("en") == "No model hub can be reached: ModelScope, Hugging Face, hf-mirror.com."
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub)
    result = one("hub.reach")
    assert (result.status, result.case) == ("ok", "some")
    assert result.fact("en").startswith("ModelScope (0.")
    assert result.fact("en").endswith("s) answer; Hugging Face, hf-mirror.com cannot be reached from here.")
    monkeypatch.setenv("HF_ENDPOINT", hub)
    monkeypatch.setenv("GLMSTUDIO_MIRROR", "file:///etc/passwd")
    result = one("hub.reach")
    assert (result.status, result.case) == ("warning", "misset")
    assert "GLMSTUDIO_MIRROR is set to file:///etc/passwd" in result.what("en")


def test_a_hub_that_never_answers_is_offline(home: Path, no_proxy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert one("hub.reach").case == "offline"  # of itself, before the check's own end


def test_nobody_is_asked_who_need_not_be(hub: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert one("hub.reach").case == "told_offline"
