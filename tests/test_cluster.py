"""The list of machines: what it means, and each thing that can be wrong with it in both languages."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from glmstudio.cluster import spec as module
from glmstudio.cluster.spec import make_cluster, own_addresses, split
from glmstudio.rundir.launch import cluster_line, interface_of
from glmstudio.rundir.machines import Cluster, Machine
from glmstudio.system import process
from tests.run_helpers import problem

HERE = {"127.0.0.1", "10.0.0.1"}
ANSWERS: dict[str, dict[str, Any]] = {
    "gone": {"code": socket.EAI_NONAME}, "again": {"code": socket.EAI_AGAIN}, "fail": {"code": socket.EAI_FAIL},
    "nodata": {"code": socket.EAI_NODATA}, "odd": {"code": -99},
    "six": {"addresses": ["fd00::5"]}, "debian": {"addresses": ["127.0.1.1"]}, "me": {"addresses": ["10.0.0.1"]},
    "alias": {"addresses": ["::ffff:10.0.0.2"]},
}  # fmt: skip
TAKEN = (30000, 31001)
REALLY_FREE = process.port_is_free


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network in which this machine is 10.0.0.1: the tests' own machine may have no address at all."""

    def ask(*asked: str) -> list[dict[str, Any]] | None:
        return None if "slow" in asked else [{"name": name, "addresses": [], **ANSWERS[name]} for name in asked]

    monkeypatch.setattr(module, "ask_names", ask)
    monkeypatch.setattr(module, "own_addresses", lambda: HERE)
    monkeypatch.setattr(process, "port_is_free", lambda port: port not in TAKEN)


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ('', {}, 'No machine is given.', '没有填写机器。'),
    ('10.0.0.1', {}, 'Only one machine is given; a run on this machine alone needs no list.', '只填写了一台机器；只在本机训练时不需要列表。'),
    ('10.0.0.1,', {}, 'Row 2 has no address.', '第 2 行没有地址。'),
    ('10.0.0.1,http://b', {}, "“http://b” is a URL; only the machine's name belongs here.", '“http://b”是网址；这里只填机器名。'),
    ('10.0.0.1,b:22', {}, '“b:22” contains the port 22; enter the port in its own field.', '“b:22”里带有端口 22；端口请单独填写。'),
    ('10.0.0.1,fd00::1', {}, '“fd00::1” is an IPv6 address; the machines connect over IPv4.', '“fd00::1”是 IPv6 地址；机器之间使用 IPv4。'),
    ('10.0.0.1,a_b', {}, "“a_b” is not a machine name: only letters, digits, hyphens and dots are allowed.", '“a_b”不是机器名：只能有字母、数字、连字符和点。'),
    ('10.0.0.1,10.0.0.256', {}, '“10.0.0.256” is not an IPv4 address: it needs four numbers from 0 to 255.', '“10.0.0.256”不是 IPv4 地址：应是四个 0 到 255 的数。'),
    ('10.0.0.1,10.0.0.2,10.0.0.2', {}, '10.0.0.2 is given twice, in row 2 and in row 3.', '10.0.0.2 出现了两次：第 2 行和第 3 行。'),
    ('127.0.0.1,10.0.0.2', {}, 'On every machine, 127.0.0.1 is that machine itself; the others could never find this one.', '127.0.0.1 在每台机器上都指它自己，其他机器永远找不到本机。'),
    ('10.0.0.1,localhost', {}, 'On every machine, localhost is that machine itself; the others could never find this one.', 'localhost 在每台机器上都指它自己，其他机器永远找不到本机。'),
    ('0.0.0.0,10.0.0.2', {}, '0.0.0.0 means all addresses of a machine; enter one of them.', '0.0.0.0 表示机器的所有地址；这里需要其中一个。'),
    ('10.0.0.1,224.0.0.1', {}, '224.0.0.1 is an address of many machines at once.', '224.0.0.1 是同时指向多台机器的地址。'),
    ('10.0.0.1,slow', {}, 'slow could not be resolved within 5 seconds.', '5 秒内没有解析出 slow 的地址。'),
    ('10.0.0.1,gone', {}, 'The name gone cannot be resolved: there is no such name.', '名称 gone 无法解析：没有这个名称。'),
    ('10.0.0.1,again', {}, 'The name again cannot be resolved: the name server does not answer.', '名称 again 无法解析：域名服务器没有响应。'),
    ('10.0.0.1,fail', {}, 'The name fail cannot be resolved: the name server failed.', '名称 fail 无法解析：域名服务器出错。'),
    ('10.0.0.1,nodata', {}, 'The name nodata cannot be resolved: the name exists, but has no address.', '名称 nodata 无法解析：名称存在，但没有地址。'),
    ('10.0.0.1,odd', {}, 'The name odd cannot be resolved: the system returned error -99.', '名称 odd 无法解析：系统返回错误 -99。'),
    ('10.0.0.1,six', {}, 'The name six resolves only to IPv6 addresses (fd00::5); the machines connect over IPv4.', '名称 six 只指向 IPv6 地址（fd00::5）；机器之间使用 IPv4。'),
    ('10.0.0.1,debian', {}, 'The name debian resolves to 127.0.1.1 here, which on every machine is that machine itself; enter the address instead.', '名称 debian 在本机指向 127.0.1.1，而它在每台机器上都指它自己；请改填地址。'),
    ('10.0.0.2,10.0.0.3', {}, 'The first machine, 10.0.0.2, is not this one; the addresses of this machine are 10.0.0.1.', '第一台机器 10.0.0.2 不是本机；本机的地址是 10.0.0.1。'),
    ('10.0.0.1,me', {}, 'me is this machine, which can only be the first one.', 'me 就是本机，而本机只能是第一台。'),
    ('10.0.0.1,10.0.0.2,alias', {}, '10.0.0.2 and alias are the same machine, 10.0.0.2.', '10.0.0.2 和 alias 是同一台机器：10.0.0.2。'),
    ('10.0.0.1*two,10.0.0.2', {}, 'The number of processes “two” in row 1 is not a whole number.', '第 1 行的进程数“two”不是整数。'),
    ('10.0.0.1*0,10.0.0.2*65', {}, 'Row 1 cannot have 0 processes; it must be 1 to 64. Row 2 cannot have 65 processes; it must be 1 to 64.', '第 1 行的进程数不能是 0，必须是 1 到 64。 第 2 行的进程数不能是 65，必须是 1 到 64。'),
    ('10.0.0.1*,10.0.0.2', {}, 'The number of processes “” in row 1 is not a whole number.', '第 1 行的进程数“”不是整数。'),
    ('10.0.0.1,10.0.0.2', {'port': 'x'}, 'The port “x” is not a whole number.', '端口“x”不是整数。'),
    ('10.0.0.1,10.0.0.2', {'port': '70000'}, 'The port cannot be 70000; it must be between 1024 and 65534.', '端口不能是 70000，必须在 1024 与 65534 之间。'),
    ('10.0.0.1,10.0.0.2', {'port': -1}, 'The port cannot be -1; it must be between 1024 and 65534.', '端口不能是 -1，必须在 1024 与 65534 之间。'),
    ('10.0.0.1,10.0.0.2', {'port': '80'}, 'The port 80 is reserved for the system; it must be between 1024 and 65534.', '端口 80 由系统保留，必须在 1024 与 65534 之间。'),
    ('10.0.0.1,10.0.0.2', {'port': 30000}, 'The rendezvous port 30000 is in use on this machine.', '会合端口 30000 在本机已被占用。'),
    ('10.0.0.1,10.0.0.2', {'port': 31000}, 'The control port 31001, the one after 31000, is in use on this machine.', '控制端口 31001（31000 之后的一个）在本机已被占用。'),
    ('10.0.0.1,10.0.0.2', {'least': 'x'}, 'The minimum number of machines, “x”, is not a whole number.', '最少机器数“x”不是整数。'),
    ('10.0.0.1,10.0.0.2', {'least': 0}, 'The minimum number of machines cannot be 0; it must be between 1 and 2.', '最少机器数不能是 0，必须在 1 与 2 之间。'),
    ('10.0.0.1,10.0.0.2', {'least': 3}, 'The minimum number of machines cannot be 3; it must be between 1 and 2.', '最少机器数不能是 3，必须在 1 与 2 之间。'),
    ('10.0.0.1,10.0.0.2', {'join_seconds': '1m'}, 'The time to wait for machines, “1m”, is not a whole number of seconds.', '等待时间“1m”不是整数秒。'),
    ('10.0.0.1,10.0.0.2', {'join_seconds': 1}, 'The time to wait for machines cannot be 1 seconds; it must be between 10 and 604800.', '等待时间不能是 1 秒，必须在 10 与 604800 之间。'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "numbers", "english", "chinese"), WRONG)
def test_every_wrong_list_is_told_in_both_languages(text: str, numbers: Any, english: str, chinese: str) -> None:
    error = problem(make_cluster, split(text), **numbers)
    assert error.what("en") == f"The list of machines is wrong. {english}"
    assert error.what("zh") == f"这些机器的填写有问题。{chinese}"
    assert error.fix("en").startswith("For example")


def test_all_that_is_wrong_is_told_at_once() -> None:
    rows = [("me;rm", "1"), ("-x", "1"), ("10.0.0.1", "x")]
    error = problem(make_cluster, rows, port="a", least="b", join_seconds="c")
    assert [each.key for each in error.values["errors"]] == [
        "cluster.bad_name", "cluster.bad_name", "cluster.processes_kind", "cluster.here_too", "cluster.port_kind",
        "cluster.least_kind", "cluster.join_kind",
    ]  # fmt: skip
    assert problem(make_cluster, [("10.0.0.1", "1")] * 65).what("en").count("65 machines are given") == 1


def test_a_port_that_somebody_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "port_is_free", REALLY_FREE)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        for asked, key in ((port, "cluster.port_taken"), (port - 1, "cluster.control_taken")):
            told = problem(make_cluster, split("10.0.0.1,10.0.0.2"), port=asked).values["errors"]
            assert key in [each.key for each in told]


def test_a_list_becomes_machines_and_survives_its_file() -> None:
    found = make_cluster(split(" 10.0.0.1*2, alias "), port="29600", join_seconds=60)
    assert found == Cluster((Machine("10.0.0.1", 2, "10.0.0.1"), Machine("alias", 1, "10.0.0.2")), 29600, 2, 60)
    assert (found.control, found.text) == (29601, "10.0.0.1*2,alias*1")
    assert Cluster.from_json(found.to_json()) == found
    for broken in (None, [], {}, {"machines": 5}, {"machines": [None]}, {"machines": [{}]}):
        assert Cluster.from_json(broken) is None


def test_addresses_are_really_those_of_this_machine() -> None:
    assert "127.0.0.1" in own_addresses()
    assert interface_of("127.0.0.1") is not None
    assert interface_of("203.0.113.7") is None


def test_the_first_machine_sorts_first_whatever_the_addresses_are() -> None:
    """torchrun numbers machines by their addresses as text; 9 comes after 10 there, and after nothing else of ours."""
    machines = tuple(Machine(ip, 2, ip) for ip in ("99.9.9.9", "10.0.0.1", "1.2.3.4"))
    cluster = Cluster(machines, least=2)
    lines = [cluster_line(cluster, number, "job", machines[number - 1].ip, "/run") for number in (1, 2, 3)]
    texts = [next(word for word in line if word.startswith("--local-addr=")).partition("=")[2] for line in lines]
    assert min(texts) == "99.9.9.9" == texts[0]
    assert all(socket.getaddrinfo(text, 1) for text in texts)  # each is an address all the same
    assert [word for word in lines[0] if word.startswith(("--nnodes", "--nproc", "--rdzv-endpoint", "--rdzv-id"))] == [
        "--nnodes=2:3", "--nproc-per-node=2", "--rdzv-endpoint=99.9.9.9:29400", "--rdzv-id=job",
    ]  # fmt: skip
    assert ["is_host=1" in " ".join(line) for line in lines] == [True, False, False]
