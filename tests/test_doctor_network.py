"""Ports, names and settings, with real listeners and look-ups."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from glmstudio.doctor import diagnose, names, ports
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


def test_names_are_looked_up_as_torch_does() -> None:
    (local,) = names.ask_names("localhost") or []
    assert local["local"]
    answers = names.ask_names("no-such-machine.invalid")
    judged = names._judge_names(answers)
    assert (judged.status, judged.case) == ("warning", "unresolved")
    assert judged.values["name"] == "no-such-machine.invalid"
    assert judged.values["code"] < 0


@pytest.mark.parametrize(
    ("answers", "case"),
    [
        (None, "slow"),
        ([{"name": "nlp", "addresses": ["10.0.0.9"], "local": False, "code": None, "seconds": 0.1}], "elsewhere"),
        ([{"name": "localhost", "addresses": [], "local": False, "code": -2, "seconds": 0.1}], "no_localhost"),
        ([{"name": "nlp", "addresses": ["127.0.1.1"], "local": True, "code": None, "seconds": 3.5}], "slow"),
    ],
)
def test_names_that_make_other_tools_hang(answers: Any, case: str) -> None:
    judged = names._judge_names(answers)
    assert (judged.status, judged.case) == ("warning", case)


def test_an_address_of_another_machine_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = names._judge_names(names.ask_names("192.0.2.7"))
    assert (judged.case, judged.values["address"]) == ("elsewhere", "192.0.2.7")


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
