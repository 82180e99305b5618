"""The names of this machine, in namespaces where they lead nowhere, elsewhere, or to nobody."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glmstudio.doctor.checks import hostname
from glmstudio.system import environment
from glmstudio.system.hostnames import ask_names
from tests.marks import slow
from tests.namespaces import case, doctor_in, finding

SCENE = """
hostname nlp
printf '%s' '{hosts}' > "{folder}/hosts"; mount --bind "{folder}/hosts" /etc/hosts
printf '%s' '{resolv}' > "{folder}/resolv"; mount --bind "{folder}/resolv" /etc/resolv.conf
"""
SWALLOW = (
    "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
    's.bind(("127.0.0.99", 53)); time.sleep(60)'
)


def diagnosed(folder: Path, hosts: str, resolv: str = "", more: str = "") -> dict[str, Any]:
    """What the doctor says on a machine called nlp with this hosts file."""
    return doctor_in(SCENE.format(folder=folder, hosts=hosts, resolv=resolv) + more, folder / "home")


def test_a_name_that_leads_nowhere(tmp_path: Path) -> None:
    data = diagnosed(tmp_path, "127.0.0.1 localhost\n")
    nowhere = finding(data, "net.hostname")
    assert nowhere["severity"] == "warning"
    assert nowhere["what"].startswith("The name of this machine, “nlp”, cannot be resolved (error -")
    assert nowhere["why"] == (
        "Runs of the studio do not need it: they use 127.0.0.1. Other trainings that use torchrun wait forever and "
        "repeat “the IPv6 network addresses of (nlp, …) cannot be retrieved”."
    )
    assert nowhere["fix"].startswith("Nothing needs to be done for the studio.")
    assert case(data, "net.localhost") == "ok"


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        slow("127.0.0.1 localhost\n127.0.1.1 nlp\n", {"net.hostname": "ok", "net.localhost": "ok"}),
        slow("127.0.0.1 localhost\n::1 nlp\n", {"net.hostname": "ok", "net.localhost": "ok"}),
        ("127.0.0.1 localhost\n10.255.255.1 nlp\n", {"net.hostname": "elsewhere", "net.localhost": "ok"}),
        slow("127.0.1.1 nlp\n", {"net.hostname": "ok", "net.localhost": "missing"}),
        ("127.0.1.1 nlp\n10.1.1.1 localhost\n", {"net.hostname": "ok", "net.localhost": "elsewhere"}),
        slow("", {"net.hostname": "unresolved", "net.localhost": "missing"}),
    ],
)
def test_names_in_a_hosts_file(hosts: str, expected: dict[str, str], tmp_path: Path) -> None:
    data = diagnosed(tmp_path, hosts)
    assert {name: case(data, name) for name in expected} == expected


def test_a_name_service_that_does_not_answer(tmp_path: Path) -> None:
    """A server at an address that swallows what is sent to it, as behind a firewall."""
    resolv = "nameserver 127.0.0.99\noptions timeout:3 attempts:1\n"
    data = diagnosed(tmp_path, "127.0.0.1 localhost\n", resolv, f"{sys.executable} -c '{SWALLOW}' &")
    assert case(data, "net.hostname") == "slow"
    assert finding(data, "net.hostname")["what"] == (
        "Resolving the name of this machine, “nlp”, takes 5 seconds or more."
    )


def test_names_are_looked_up_as_torch_does() -> None:
    (local,) = ask_names("localhost") or []
    assert local["local"]
    judged = hostname.judge(ask_names("no-such-machine.invalid"), "x")
    assert (judged.status, judged.case) == ("warning", "unresolved")
    assert judged.values["name"] == "no-such-machine.invalid"
    assert judged.values["code"] < 0
    judged = hostname.judge(ask_names("192.0.2.7"), "x")
    assert (judged.case, judged.values["address"]) == ("elsewhere", "192.0.2.7")


def test_a_slow_answer_is_told() -> None:
    slow = {"name": "nlp", "addresses": ["127.0.1.1"], "local": True, "code": None, "seconds": 3.5}
    assert hostname.judge([slow], "nlp").case == "slow"
    assert hostname.judge(None, "nlp").values["seconds"] == 5


@pytest.mark.parametrize(
    ("here", "action", "fix"),
    [
        ("", "hosts.add", "let the studio add one line to /etc/hosts"),
        ("in_wsl", "", "`wsl --shutdown`"),
        ("in_container", "", "`docker run --hostname nlp --add-host nlp:127.0.0.1`"),
        ("on_nixos", "", "`sudo nixos-rebuild switch`"),
    ],
)
def test_each_place_has_its_remedy(here: str, action: str, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for known in ("in_wsl", "in_container", "on_nixos"):
        assert callable(getattr(environment, known))
        monkeypatch.setattr(hostname, known, lambda known=known: known == here)
    nowhere = {"name": "nlp", "addresses": [], "local": False, "code": -2, "seconds": 0.1}
    judged = hostname.judge([nowhere], "nlp")
    assert judged.action == action
    assert fix in replace(judged, id="net.hostname", family="network").fix("en")


def test_a_name_that_would_be_a_command_never_stands_in_one() -> None:
    nowhere = {"name": "x; rm -rf ~", "addresses": [], "local": False, "code": -2, "seconds": 0.1}
    judged = hostname.judge([nowhere], "x")
    result = replace(judged, id="net.hostname", family="network")
    assert (judged.action, judged.remedy) == ("", "by_hand")
    assert "rm -rf" not in result.fix("en") + result.fix("zh")
