"""The list of machines: everything that can be wrong with it, each in its own words, all told at once."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from glmstudio import process
from glmstudio.errors import StudioError
from glmstudio.runs import cluster
from glmstudio.runs.cluster import Cluster, Machine, make_cluster, split

OWN = "10.0.0.1"
GOOD = (OWN, "2"), ("10.0.0.2", "2")


@pytest.fixture(autouse=True)
def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "own_addresses", lambda: {"127.0.0.1", OWN})


def looks(*names: str) -> list[dict[str, Any]] | None:
    """A name server that knows some names."""
    known = {
        "node2": (["10.0.0.2"], 0), "self": (["127.0.1.1"], 0), "six": (["fd00::2"], 0),
        "gone": ([], socket.EAI_NONAME), "mute": ([], socket.EAI_AGAIN), "here": ([OWN], 0),
    }  # fmt: skip
    if "slow" in names:
        return None
    return [{"name": name, "addresses": known[name][0], "code": known[name][1], "local": False} for name in names]


def two_free_ports() -> int:
    """A port that is free with the one after it."""
    while not process.port_is_free((port := process.free_port()) + 1):
        pass
    return port


def wrong(rows: Any, **numbers: Any) -> StudioError:
    port = {"port": two_free_ports()} | numbers
    with pytest.raises(StudioError) as told:
        make_cluster(rows, looks=looks, **port)
    assert told.value.key == "cluster.wrong"
    return told.value


def row(address: str, processes: str = "1") -> tuple[tuple[str, str], ...]:
    return (OWN, "1"), (address, processes)


@pytest.mark.parametrize(
    ("rows", "numbers", "what"),
    [
        ((), {}, "No machine is named."),
        (GOOD[:1], {}, "Only one machine is named; a run on this machine alone needs no list."),
        (row(""), {}, "Row 2 has no address."),
        (row("http://node2/"), {}, "“http://node2/” is an address of a page; only the machine's name belongs here."),
        (row("node2:29400"), {}, "“node2:29400” has the port 29400 in it; the port has a place of its own."),
        (row("fd00::2"), {}, "“fd00::2” is an IPv6 address; the machines meet over IPv4."),
        (row("node two"), {}, "“node two” is no machine's name: a name has only letters, digits, hyphens and dots."),
        (row("-n; reboot"), {}, "“-n; reboot” is no machine's name: a name has only letters, digits, hyphens and dots."),
        (row("10.0.0.300"), {}, "“10.0.0.300” is no IPv4 address: it has four numbers from 0 to 255."),
        ((*GOOD, ("10.0.0.2", "1")), {}, "10.0.0.2 is named twice, in row 2 and in row 3."),
        (row("localhost"), {}, "localhost is, on every machine, that machine itself; the others would never find this one."),
        (row("0.0.0.0"), {}, "0.0.0.0 means all addresses of a machine; one of them is needed."),
        (row("224.0.0.1"), {}, "224.0.0.1 is an address of many machines at once."),
        (row("slow"), {}, "Nobody told within 5 seconds where to find slow."),
        (row("gone"), {}, "The name gone leads nowhere: no such name is known."),
        (row("mute"), {}, "The name mute leads nowhere: the name server does not answer."),
        (row("six"), {}, "The name six leads only to IPv6 addresses (fd00::2); the machines meet over IPv4."),
        (row("self"), {}, "The name self leads to 127.0.1.1 here, which is, on every machine, that machine itself; name the address instead."),
        (row("here"), {}, "here is this machine, which can only be the first one."),
        ((("10.0.0.9", "1"), GOOD[1]), {}, "The first machine, 10.0.0.9, is not this one, whose addresses are 10.0.0.1."),
        ((*GOOD, ("node2", "1")), {}, "10.0.0.2 and node2 are the same machine, 10.0.0.2."),
        (row("10.0.0.2", "x"), {}, "The number of processes “x” in row 2 is no whole number."),
        (row("10.0.0.2", "0"), {}, "0 processes in row 2 cannot be; it must be 1 to 64."),
        (row("10.0.0.2", "65"), {}, "65 processes in row 2 cannot be; it must be 1 to 64."),
        (GOOD, {"port": "ssh"}, "The port “ssh” is no whole number."),
        (GOOD, {"port": "80"}, "The port 80 belongs to the system; it must lie between 1024 and 65534."),
        (GOOD, {"port": "65535"}, "The port 65535 cannot be; it must lie between 1024 and 65534."),
        (GOOD, {"least": "3"}, "The least number of machines cannot be 3; it must lie between 1 and 2."),
        (GOOD, {"least": "few"}, "The least number of machines, “few”, is no whole number."),
        (GOOD, {"join_seconds": "5"}, "The machines cannot be waited for 5 seconds; it must lie between 10 and 604800."),
        (GOOD, {"join_seconds": "1.5"}, "The time to wait for machines, “1.5”, is no whole number of seconds."),
    ],
)  # fmt: skip
def test_one_wrong_thing_is_told_in_its_own_words(rows: Any, numbers: dict[str, Any], what: str) -> None:
    (only,) = wrong(rows, **numbers).values["errors"]
    assert only.what() == what
    chinese = only.what("zh")
    assert chinese != what
    assert "{" not in chinese


def test_twenty_wrong_things_are_told_at_once() -> None:
    rows = [
        ("10.0.0.9", "x"),
        ("", "0"),
        ("http://a/", "1"),
        ("b:1", "99"),
        ("::1:2", "1"),
        ("c d", "1"),
        ("1.2.3", "-1"),
    ]
    rows += [
        ("localhost", "1"),
        ("0.0.0.0", "1"),
        ("224.0.0.1", "1"),
        ("gone", "1"),
        ("six", "1"),
        ("self", "1"),
        ("six", "1"),
    ]
    error = wrong(rows, port="x", least="99", join_seconds="")
    keys = [each.key.removeprefix("cluster.") for each in error.values["errors"]]
    assert len(keys) == 22, keys
    assert len(set(keys)) == 19, keys
    assert all(each.what() in error.what() for each in error.values["errors"])


def test_a_port_that_somebody_has_is_named() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        assert [each.key for each in wrong(GOOD, port=port).values["errors"]] == ["cluster.port_taken"]
        assert [each.key for each in wrong(GOOD, port=port - 1).values["errors"]] == ["cluster.control_taken"]


def test_a_list_that_is_right_is_kept_and_read_back() -> None:
    port = two_free_ports()
    made = make_cluster(split(f"{OWN}*2, node2"), port=port, join_seconds="60", looks=looks)
    assert made == Cluster((Machine(OWN, 2, OWN), Machine("node2", 1, "10.0.0.2")), port, 2, 60)
    assert Cluster.from_json(made.to_json()) == made
    assert made.text == f"{OWN}*2,node2*1"
    assert Cluster.from_json({"machines": "hostile"}) is None
