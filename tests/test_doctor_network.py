"""Ports, names and settings, with real listeners and look-ups."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from glmstudio.doctor import diagnose, ports
from glmstudio.doctor.report import Result
from glmstudio.runs.process import COOKIE, free_port


def one(name: str) -> Result:
    (result,) = diagnose(only=[name]).results
    return result


# --- Network ---------------------------------------------------------------------------------------------------------

LISTEN = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print(flush=True); sys.stdin.read()"
)


def port_result(port: int) -> Result:
    return next(result for result in diagnose(only=["net.port"]).results if result.subject == str(port))


@pytest.mark.parametrize("port", [29400, 29500])
def test_a_taken_port_names_its_owner(port: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        result = port_result(port)
        assert result.status == "warning"
        assert result.values["pid"] == owner.pid
        assert result.fact("en") == f"Port {port} is used by {result.values['name']} (process {owner.pid})."
        owner.communicate()
    assert port_result(port).status == "ok"


def test_a_port_of_our_own_run_is_no_finding() -> None:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, COOKIE: "some-run"},
    ) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        judged = ports._port(port)
        assert (judged.status, judged.case) == ("info", "ours")
        owner.communicate()


def test_a_proxy_that_catches_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    assert one("proxy.localhost").case == "ok"
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy.example:3128")
    result = one("proxy.localhost")
    assert (result.status, result.case) == ("info", "caught")
    assert "secret" not in json.dumps(result.to_json("en"))
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert one("proxy.localhost").case == "exempt"


def test_settings_of_another_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    result = one("env.leaks")
    assert result.status == "warning"
    assert result.fact("en") == "Still set: RANK TORCHELASTIC_RUN_ID"
