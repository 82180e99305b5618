"""The names of this machine, in namespaces where they lead nowhere, elsewhere, or to nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glmstudio.doctor import names, place
from glmstudio.doctor.report import Result

ROOT = Path(__file__).parent.parent
# A machine of its own: name, hosts file, name service, and a network with nothing but a loopback.
SCENE = """
set -e
mount --make-rprivate /
ip link set lo up
hostname nlp
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/resolv.conf" /etc/resolv.conf
exec "$2" -m glmstudio doctor --json
"""


def diagnosed(folder: Path, hosts: str, resolv: str = "") -> dict[str, Any]:
    """What `doctor --json` prints on a machine called nlp with this hosts file."""
    (folder / "hosts").write_text(hosts)
    (folder / "resolv.conf").write_text(resolv)
    done = subprocess.run(
        ["unshare", "--mount", "--uts", "--net", "bash", "-c", SCENE, "scene", str(folder), sys.executable],
        cwd=ROOT, env={**os.environ, "GLMSTUDIO_HOME": str(folder / "home"), "LC_ALL": "C"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    data: dict[str, Any] = json.loads(done.stdout)
    return data


def cases(data: dict[str, Any]) -> dict[str, str]:
    return {fact["id"]: fact["case"] for fact in data["facts"]["checks"] if fact["id"].startswith("net.")}


def test_a_name_that_leads_nowhere(tmp_path: Path) -> None:
    data = diagnosed(tmp_path, "127.0.0.1 localhost\n")
    (finding,) = [finding for finding in data["findings"] if finding["id"] == "net.hostname"]
    assert finding["severity"] == "warning"
    assert finding["what"].startswith("The name of this machine, “nlp”, leads nowhere (error -")
    assert finding["why"] == (
        "Runs of the studio do not need it: they meet at 127.0.0.1. Other trainings that use torchrun wait for ever and "
        "repeat “the IPv6 network addresses of (nlp, …) cannot be retrieved”."
    )
    assert finding["fix"].startswith("Nothing needs to be done for the studio.")
    assert cases(data)["net.localhost"] == "ok"


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("127.0.0.1 localhost\n127.0.1.1 nlp\n", {"net.hostname": "ok", "net.localhost": "ok"}),
        ("127.0.0.1 localhost\n::1 nlp\n", {"net.hostname": "ok", "net.localhost": "ok"}),
        ("127.0.0.1 localhost\n10.255.255.1 nlp\n", {"net.hostname": "elsewhere", "net.localhost": "ok"}),
        ("127.0.1.1 nlp\n", {"net.hostname": "ok", "net.localhost": "missing"}),
        ("127.0.1.1 nlp\n10.1.1.1 localhost\n", {"net.hostname": "ok", "net.localhost": "elsewhere"}),
        ("", {"net.hostname": "unresolved", "net.localhost": "missing"}),
    ],
)
def test_names_in_a_hosts_file(hosts: str, expected: dict[str, str], tmp_path: Path) -> None:
    found = cases(diagnosed(tmp_path, hosts))
    assert {name: found[name] for name in expected} == expected


def test_a_name_service_that_does_not_answer(tmp_path: Path) -> None:
    """A server at an address that swallows what is sent to it, as behind a firewall."""
    resolv = "nameserver 127.0.0.99\noptions timeout:3 attempts:1\n"
    script = SCENE.replace("exec", f"{sys.executable} -c '{SWALLOW}' & exec")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "resolv.conf").write_text(resolv)
    done = subprocess.run(
        ["unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", script, "scene", str(tmp_path), sys.executable],
        cwd=ROOT, env={**os.environ, "GLMSTUDIO_HOME": str(tmp_path / "home"), "LC_ALL": "C"}, capture_output=True, text=True,
    )  # fmt: skip
    found = cases(json.loads(done.stdout))
    assert found["net.hostname"] in ("slow", "unresolved")


SWALLOW = 'import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.99", 53)); time.sleep(60)'


def test_names_are_looked_up_as_torch_does() -> None:
    (local,) = names.ask_names("localhost") or []
    assert local["local"]
    judged = names.judge(names.ask_names("no-such-machine.invalid"), "x")
    assert (judged.status, judged.case) == ("warning", "unresolved")
    assert judged.values["name"] == "no-such-machine.invalid"
    assert judged.values["code"] < 0
    judged = names.judge(names.ask_names("192.0.2.7"), "x")
    assert (judged.case, judged.values["address"]) == ("elsewhere", "192.0.2.7")


def test_a_slow_answer_is_told() -> None:
    slow = {"name": "nlp", "addresses": ["127.0.1.1"], "local": True, "code": None, "seconds": 3.5}
    assert names.judge([slow], "nlp").case == "slow"
    assert names.judge(None, "nlp").values["seconds"] == 6


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
        assert callable(getattr(place, known))
        monkeypatch.setattr(names, known, lambda known=known: known == here)
    nowhere = {"name": "nlp", "addresses": [], "local": False, "code": -2, "seconds": 0.1}
    judged = names.judge([nowhere], "nlp")
    assert judged.action == action
    assert fix in Result("net.hostname", "network", **vars(judged)).fix("en")


def test_a_name_that_would_be_a_command_never_stands_in_one() -> None:
    nowhere = {"name": "x; rm -rf ~", "addresses": [], "local": False, "code": -2, "seconds": 0.1}
    judged = names.judge([nowhere], "x")
    result = Result("net.hostname", "network", **vars(judged))
    assert (judged.action, judged.remedy) == ("", "by_hand")
    assert "rm -rf" not in result.fix("en") + result.fix("zh")
