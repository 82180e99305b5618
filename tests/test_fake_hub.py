"""The stand-in for the hubs: the real clients work against it, and each of its faults happens."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from glmstudio.models.folder import folder_problems
from tests.fakes.hub import Faults, Hub
from tests.fakes.published import make_model
from tests.waiting import until

REPO = "ZhipuAI/fake-glm"
SHARD = "pytorch_model-00001-of-00002.bin"
SHARD_BYTES = 300_000
PROTOCOLS = {
    "modelscope": f"/api/v1/models/{REPO}/repo?Revision=master&FilePath=",
    "huggingface": f"/{REPO}/resolve/main/",
}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The folder that the hub serves."""
    return make_model(tmp_path / "hub", REPO, shard_bytes=SHARD_BYTES)


@pytest.fixture
def hub(published: Path) -> Iterator[Hub]:
    with Hub(published.parents[1]) as running:
        yield running


class Answer:
    """What came for one request, as much of it as came."""

    def __init__(self, hub: Hub, address: str, method: str = "GET", **headers: str) -> None:
        self.ended = "whole"
        connection = http.client.HTTPConnection("127.0.0.1", int(hub.url.rpartition(":")[2]), timeout=10)
        connection.request(method, address, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        self.status, self.headers, data = response.status, response.headers, bytearray()
        try:
            while block := response.read1(1 << 16):
                data += block
        except ConnectionResetError:
            self.ended = "reset"
        self.data = bytes(data)
        if method == "GET" and self.ended == "whole" and len(data) < int(self.headers["Content-Length"]):
            self.ended = "short"
        connection.close()

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def body(hub: Hub, path: str = SHARD, protocol: str = "modelscope", method: str = "GET", **headers: str) -> Answer:
    """One file, without following to another address."""
    return Answer(hub, PROTOCOLS[protocol] + quote(path), method, **headers)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder, without those that clients keep for themselves."""
    found = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {path: file.read_bytes() for path, file in found.items() if not path.startswith(".")}


# ---- the real clients; they read their variables when they are imported, so each has a process of its own

_MODELSCOPE = """
from modelscope_hub import HubApi
from modelscope_hub.compat.snapshot_download import snapshot_download
files = HubApi().list_repo_files(repo, "model")
snapshot_download(repo, local_dir=folder)
said = {file.path: [file.size, file.sha256] for file in files if file.type == "blob"}
"""
_HUGGING_FACE = """
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
info = HfApi(endpoint=url).model_info(repo, revision="v1.0", files_metadata=True)
snapshot_download(repo, local_dir=folder)
hf_hub_download(repo, "config.json", cache_dir=folder + "-cache")  # asks for the file itself, not for the list
said = {"id": info.id, "commit": info.sha}
for file in info.siblings:
    said[file.rfilename] = [file.size, file.blob_id, file.lfs and file.lfs.sha256]
"""


def client(code: str, hub: Hub, folder: Path, repo: str = REPO, **more: str) -> dict[str, Any]:
    """Run a real client that downloads the model into `folder`; what it says about the hub."""
    variables = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        "NO_PROXY": "127.0.0.1",
        "MODELSCOPE_ENDPOINT": hub.url,
        "MODELSCOPE_CACHE": str(folder) + "-modelscope",
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder) + "-huggingface",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **more,
    }
    start = "import json, sys; url, repo, folder = sys.argv[1:]\n"
    command = [sys.executable, "-c", start + code + "print(json.dumps(said))", hub.url, repo, str(folder)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(redirect=True),
        Faults(drop_after=[100_000], listing_errors=[503]),
    ],
    ids=["plain", "redirect", "cut"],
)
def test_the_client_of_modelscope(faults: Faults, hub: Hub, published: Path, tmp_path: Path) -> None:
    hub.faults, hub.token = replace(faults), "secret"
    said = client(_MODELSCOPE, hub, tmp_path / "got", MODELSCOPE_API_TOKEN="secret")
    wanted = contents(published)
    assert contents(tmp_path / "got") == wanted
    assert said == {path: [len(data), hashlib.sha256(data).hexdigest()] for path, data in wanted.items()}
    assert {request.path for request in hub.requests if request.kind == "body"} == set(wanted)
    assert (len(hub.faults.drop_after), len(hub.faults.listing_errors)) == (0, 0)  # all happened


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(redirect=True),
        Faults(truncated=1, too_many=1),  # it gives up after a reset
    ],
    ids=["plain", "redirect", "cut"],
)
def test_the_client_of_hugging_face(faults: Faults, hub: Hub, published: Path, tmp_path: Path) -> None:
    hub.faults, hub.token, hub.renamed = replace(faults), "secret", {"THUDM/old-glm": REPO}
    said = client(_HUGGING_FACE, hub, tmp_path / "got", "THUDM/old-glm", HF_TOKEN="secret")
    wanted = contents(published)
    assert contents(tmp_path / "got") == wanted
    assert (said.pop("id"), said.pop("commit")) == (REPO, hub.commit)
    assert {path: about[0] for path, about in said.items()} == {path: len(data) for path, data in wanted.items()}
    assert said[SHARD][2] == hashlib.sha256(wanted[SHARD]).hexdigest()
    text = wanted["config.json"]
    git = hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False)
    assert said["config.json"][1:] == [git.hexdigest(), None]
    assert (hub.faults.truncated, hub.faults.too_many) == (0, 0)
    assert any(request.status == 307 for request in hub.requests)


def test_a_client_finds_out_about_a_wrong_bit(hub: Hub, tmp_path: Path) -> None:
    hub.faults = Faults(wrong_bytes={SHARD: -1})
    with pytest.raises(AssertionError, match=r"(?i)integrity|hash|sha"):
        client(_MODELSCOPE, hub, tmp_path / "got")


# ---- the model and its listings


@pytest.mark.parametrize("layout", ["bin", "safetensors", "both"])
def test_the_model_is_whole(layout: Any, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "hub", "some/model", layout=layout, shards=3, shard_bytes=1000, seed=7)
    assert list(folder_problems(folder)) == []
    again = make_model(tmp_path / "other", "some/model", layout=layout, shards=3, shard_bytes=1000, seed=7)
    other = make_model(tmp_path / "third", "some/model", layout=layout, shards=3, shard_bytes=1000, seed=8)
    assert contents(folder) == contents(again) != contents(other)
    assert {"modeling_chatglm.py", "README.md", "notes/more.txt", "MODEL_LICENSE"} < contents(folder).keys()


def test_listings_of_folders(hub: Hub) -> None:
    def modelscope(query: str) -> dict[str, str]:
        listed = Answer(hub, f"/api/v1/models/{REPO}/repo/files?Revision=master{query}").json["Data"]["Files"]
        return {each["Path"]: each["Type"] for each in listed}

    def tree(rest: str) -> dict[str, str]:
        return {each["path"]: each["type"] for each in Answer(hub, f"/api/models/{REPO}/tree/main{rest}").json}

    flat, deep = modelscope(""), modelscope("&Recursive=True")
    assert (flat["notes"], deep["notes/more.txt"], "notes/more.txt" in flat) == ("tree", "blob", False)
    assert modelscope("&Root=notes&Recursive=True") == {"notes/more.txt": "blob"}
    flat, deep = tree(""), tree("?recursive=True")
    assert (flat["notes"], deep["notes/more.txt"], "notes/more.txt" in flat) == ("directory", "file", False)
    assert tree("/notes") == {"notes/more.txt": "file"}
    bare = Answer(hub, f"/api/models/{REPO}").json["siblings"]
    assert all(each.keys() == {"rfilename"} for each in bare)
    assert [request.kind for request in hub.requests] == ["list"] * 7


def test_a_changed_file_is_another_commit(hub: Hub, published: Path) -> None:
    before, address = hub.commit, f"/{REPO}/resolve/{hub.commit}/README.md"
    assert Answer(hub, address).headers["X-Repo-Commit"] == before
    (published / "README.md").write_text("Other words, and more.\n")
    assert hub.commit != before
    assert (Answer(hub, address).status, Answer(hub, address).headers["X-Error-Code"]) == (404, "RevisionNotFound")
    assert body(hub, "README.md", "huggingface").data == b"Other words, and more.\n"
    listed = Answer(hub, f"/api/v1/models/{REPO}/repo/files?Recursive=True").json["Data"]["Files"]
    assert {each["Sha256"] for each in listed if each["Path"] == "README.md"} == {
        hashlib.sha256(b"Other words, and more.\n").hexdigest()
    }


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("/api/models/no/body", "RepoNotFound"),
        (f"/api/models/{REPO}/revision/v9", "RevisionNotFound"),
        (f"/{REPO}/resolve/main/nothing.bin", "EntryNotFound"),
        ("/no/body/resolve/main/config.json", "RepoNotFound"),
        ("/api/models/../hub", "RepoNotFound"),
        ("/api/v1/models/no/body/repo/files", None),
        (PROTOCOLS["modelscope"] + "../../../secret", None),
        ("/signed/0123/config.json", None),
    ],
)
def test_what_is_not_there(address: str, code: str | None, hub: Hub) -> None:
    answer = Answer(hub, address)
    assert (answer.status, answer.headers["X-Error-Code"]) == (404, code)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_token(protocol: str, hub: Hub) -> None:
    hub.token = "secret"
    assert body(hub, protocol=protocol).status == 401
    assert body(hub, protocol=protocol, Cookie="m_session_id=secret").status == 200
    hub.faults = Faults(redirect=True)
    sent_on = body(hub, protocol=protocol, Authorization="Bearer secret")
    assert Answer(hub, urlsplit(sent_on.headers["Location"]).path).status == 200  # the address itself is enough
    assert [request.authorization for request in hub.requests] == ["", "", "Bearer secret", ""]


# ---- bodies


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("", 200, 0, -1),
        ("bytes=0-0", 206, 0, 0),
        ("bytes=1000-", 206, 1000, -1),
        ("bytes=5-99999999", 206, 5, -1),
        ("bytes=-10", 206, -10, -1),
        ("bytes=9-3", 200, 0, -1),
        ("bytes=1-2,4-5", 200, 0, -1),
        ("pages=1-2", 200, 0, -1),
    ],
)
def test_ranges(protocol: str, asked: str, status: int, first: int, last: int, hub: Hub, published: Path) -> None:
    data = (published / SHARD).read_bytes()
    start, end = first % len(data), last % len(data)
    answer = body(hub, SHARD, protocol, **({"Range": asked} if asked else {}))
    assert (answer.status, answer.data) == (status, data[start : end + 1])
    ranged = f"bytes {start}-{end}/{len(data)}" if status == 206 else None
    assert (answer.headers["Content-Range"], answer.headers["Content-Length"]) == (ranged, str(end + 1 - start))
    (request,) = hub.requests
    assert (request.path, request.kind, request.start, request.end) == (SHARD, "body", start, end)
    assert request.sent == hub.sent() == hub.sent(SHARD) == len(answer.data)
    assert hub.sent("README.md") == 0


def test_ranges_that_cannot_be(hub: Hub, published: Path) -> None:
    size = (published / SHARD).stat().st_size
    answer = body(hub, Range=f"bytes={size}-")
    assert (answer.status, answer.headers["Content-Range"], answer.data) == (416, f"bytes */{size}", b"")
    tag = body(hub, method="HEAD").headers["ETag"]
    assert body(hub, Range="bytes=5-9", If_Range=tag).status == 206
    assert body(hub, Range="bytes=5-9", If_Range='"another"').status == 200
    (published / "empty").write_bytes(b"")
    assert (body(hub, "empty").status, body(hub, "empty").data) == (200, b"")


def test_many_requests_on_one_connection(hub: Hub, published: Path) -> None:
    hub.faults = Faults(errors=[503])
    connection = http.client.HTTPConnection("127.0.0.1", int(hub.url.rpartition(":")[2]), timeout=10)
    got = []
    for path in ("config.json", SHARD, "README.md"):
        connection.request("GET", PROTOCOLS["modelscope"] + path, headers={"User-Agent": "a test"})
        got.append(connection.getresponse().read())
    connection.close()
    assert got[1:] == [(published / path).read_bytes() for path in (SHARD, "README.md")]
    assert [(request.status, request.user_agent) for request in hub.requests] == [
        (status, "a test") for status in (503, 200, 200)
    ]


# ---- faults


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("faults", "ended", "lengths"),
    [
        (Faults(drop_after=[200_000, 0, 1]), "reset", [200_000, 0, 1]),
        (Faults(truncated=2), "short", [150_000, 150_000]),
    ],
)
def test_bodies_that_end_early(
    protocol: str, faults: Faults, ended: str, lengths: list[int], hub: Hub, published: Path
) -> None:
    hub.faults = replace(faults)
    data = (published / SHARD).read_bytes()
    for length in lengths:
        answer = body(hub, SHARD, protocol, Range="bytes=0-299999")
        assert (answer.status, answer.ended, answer.data) == (206, ended, data[:length])
        assert hub.requests[-1].sent == length
    assert body(hub, SHARD, protocol).data == data


def test_a_cut_waits_for_a_body_that_is_long_enough(hub: Hub) -> None:
    hub.faults = Faults(drop_after=[1000])
    assert body(hub, "README.md").ended == "whole"
    assert body(hub, SHARD).ended == "reset"


def test_a_silent_body(hub: Hub) -> None:
    hub.faults = Faults(stall_after=(1000,))
    with socket.create_connection(("127.0.0.1", int(hub.url.rpartition(":")[2])), timeout=0.3) as client:
        client.sendall(f"GET {PROTOCOLS['modelscope']}{SHARD} HTTP/1.1\r\n\r\n".encode())
        got = b""
        with suppress(TimeoutError):
            while block := client.recv(1 << 16):
                got += block
        assert block  # the connection is not at its end
        assert len(got.partition(b"\r\n\r\n")[2]) == 1000
        assert hub.sent() == 1000
        assert hub.requests == []
    until(lambda: len(hub.requests) == 1)  # as soon as the client went
    assert body(hub).ended == "whole"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("redirect", [False, True])
def test_refusals(protocol: str, redirect: bool, hub: Hub) -> None:
    hub.faults = Faults(errors=[500, 502], too_many=1, html=1, retry_after="3", redirect=redirect)
    answers = []
    for _ in range(5):
        address = PROTOCOLS[protocol] + SHARD
        if redirect:
            sent_on = Answer(hub, address)
            assert (sent_on.status, sent_on.data) == (302, b"")
            address = urlsplit(sent_on.headers["Location"]).path
        answers.append(Answer(hub, address))
    assert [answer.status for answer in answers] == [500, 502, 429, 200, 200]
    assert answers[2].headers["Retry-After"] == "3"
    assert (answers[3].headers["Content-Type"], answers[3].data[:9]) == ("text/html", b"<!DOCTYPE")
    bodies = [request for request in hub.requests if request.kind == "body"]
    assert [(request.status, request.path) for request in bodies] == [(answer.status, SHARD) for answer in answers]
    assert sum(request.sent for request in hub.requests) == hub.sent() == len(answers[3].data + answers[4].data)
    assert hub.faults == Faults(retry_after="3", redirect=redirect, errors=[])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_ranges(protocol: str, hub: Hub, published: Path) -> None:
    size = (published / SHARD).stat().st_size
    hub.faults = Faults(ignore_ranges=True)
    answer = body(hub, SHARD, protocol, Range="bytes=5-9")
    assert (answer.status, len(answer.data), answer.headers["Content-Range"]) == (200, size, None)
    for redirect in (False, True):
        hub.faults = Faults(forbid_ranges=True, redirect=redirect)
        assert body(hub, SHARD, protocol, Range="bytes=5-9").status == 403
        assert body(hub, SHARD, protocol).status == (302 if redirect else 200)
    assert (hub.requests[1].start, hub.requests[1].end, hub.requests[1].sent) == (5, 9, 0)


def test_wrong_lengths(hub: Hub, published: Path) -> None:
    data = (published / SHARD).read_bytes()
    hub.faults = Faults(wrong_length=2)
    answer = body(hub, Range="bytes=5-9")
    assert (answer.headers["Content-Range"], answer.data) == (f"bytes 5-9/{len(data) + 7}", data[5:10])
    answer = body(hub)
    assert answer.ended == "whole"  # a body as good as any other, but not of the listed file
    assert answer.data[: len(data)] == data
    assert len(answer.data) == int(answer.headers["Content-Length"]) == len(data) + 7
    assert body(hub).data == data


@pytest.mark.parametrize("where", [None, 0, 1000])
def test_wrong_bits(where: int | None, hub: Hub, published: Path) -> None:
    data = (published / SHARD).read_bytes()
    place = len(data) // 2 if where is None else where
    hub.faults = Faults(wrong_bytes={SHARD: 2}, flip_at=where)
    wrong = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    assert body(hub).data == wrong
    assert body(hub, Range=f"bytes={place + 1}-").data == data[place + 1 :]  # not about that byte
    assert body(hub, Range=f"bytes={place}-{place}").data == wrong[place : place + 1]
    assert body(hub).data == data
    hub.faults = Faults(wrong_bytes={SHARD: -1}, flip_at=where)
    assert [body(hub).data for _ in range(3)] == [wrong] * 3
    assert body(hub, "config.json").data == (published / "config.json").read_bytes()


def test_listings_fail(hub: Hub) -> None:
    hub.faults = Faults(listing_errors=[502, 429])
    statuses = [Answer(hub, f"/api/v1/models/{REPO}/repo/files?Recursive=True").status for _ in range(2)]
    assert body(hub).status == 200
    assert [*statuses, Answer(hub, f"/api/models/{REPO}/revision/main").status] == [502, 429, 200]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_signed_addresses_expire(protocol: str, hub: Hub, published: Path) -> None:
    hub.faults = Faults(redirect=True, signature_uses=2)
    sent_on = body(hub, SHARD, protocol)
    address = urlsplit(sent_on.headers["Location"]).path
    assert sent_on.headers["Location"].startswith(f"{hub.url}/signed/")
    answers = [Answer(hub, address, Range="bytes=7-8") for _ in range(3)]
    assert [answer.status for answer in answers] == [206, 206, 403]
    assert answers[0].data == (published / SHARD).read_bytes()[7:9]
    assert body(hub, SHARD, protocol).headers["Location"] != sent_on.headers["Location"]


def test_too_many_at_once(hub: Hub) -> None:
    hub.faults, hub.rate = Faults(most_connections=2), 500_000
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(body(hub))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200, 200, 429, 429]
    hub.rate = 0
    assert {body(hub).status for _ in range(50)} == {200}  # each as soon as the one before ended


# ---- its speed, its end, and as a command


@pytest.mark.parametrize(("rate", "size", "connections"), [(2e6, 1_000_000, 3), (100e6, 50_000_000, 1)])
def test_the_rate(rate: float, size: int, connections: int, hub: Hub, published: Path) -> None:
    (published / "zeros").write_bytes(bytes(size))
    body(hub, "zeros", method="HEAD")  # its sums are computed once
    hub.rate = rate
    threads = [threading.Thread(target=body, args=(hub, "zeros")) for _ in range(connections)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(size / rate / 2)
    half = hub.sent("zeros")
    until_half = time.monotonic() - begun
    for thread in threads:
        thread.join()
    # Never faster, at no time; how much slower says only how busy the machine is.
    assert half < connections * (rate * until_half + size / 4)
    assert time.monotonic() - begun > size / rate * 0.97


def test_the_end_of_the_hub(published: Path) -> None:
    before = set(threading.enumerate())
    with Hub(published.parents[1], Faults(stall_after=[1000]), rate=10_000) as hub:
        answers: list[Answer] = []
        clients = [threading.Thread(target=lambda: answers.append(body(hub))) for _ in range(3)]
        for each in clients:
            each.start()
        idle = socket.create_connection(("127.0.0.1", int(hub.url.rpartition(":")[2])))
        until(lambda: hub.sent() > 3000)
    cut = hub.sent()
    for each in clients:
        each.join()
    assert hub.sent() == cut, "nothing is sent after the end"
    assert set(threading.enumerate()) == before
    assert [answer.ended for answer in answers] == ["short"] * 3
    assert idle.recv(1) == b""
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        body(hub)


def test_the_command(published: Path, spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    log = tmp_path / "log"
    root = str(published.parents[1])
    server = spawn("-m", "tests.fakes.hub", "--root", root, "--rate", "1e6", "--redirect", "--log", str(log))
    assert server.stdout is not None
    ready, url = server.stdout.readline().split()
    assert ready == "READY"
    port = int(url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", PROTOCOLS["huggingface"] + SHARD)
    answer = connection.getresponse()
    answer.read()
    connection.request("GET", urlsplit(answer.headers["Location"]).path, headers={"Range": "bytes=0-199999"})
    assert len(connection.getresponse().read()) == 200_000
    connection.close()
    until(lambda: log.read_text().count("\n") == 2)
    first, second = map(json.loads, log.read_text().splitlines())
    assert (first["kind"], first["status"], first["path"]) == ("other", 302, SHARD)
    assert (second["kind"], second["status"], second["sent"], second["end"]) == ("body", 206, 200_000, 199_999)
    server.send_signal(signal.SIGTERM)
    assert server.wait(5) == -signal.SIGTERM
