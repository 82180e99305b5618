"""The door of the page: the key, the ticket and the cookie; whose a connection is; and what a second start finds."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from glmstudio.access import door, peer
from glmstudio.access.api_key import VARIABLE, given_key
from glmstudio.errors import StudioError
from glmstudio.files import write_text
from glmstudio.paths import make_home, paths
from glmstudio.serve.listening import open_up, take
from glmstudio.system import sockets
from glmstudio.tools.call import call, unfenced
from glmstudio.tools.toolbox import Tool
from glmstudio.ui.shell import app, instance
from tests.e2e.studio import Studio, command, environment, get, studio
from tests.users import OTHER, other_user

KEY = "k" * 32


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("home")) as started:
        yield started


def knock(running: Studio, path: str, **headers: str) -> httpx.Response:
    return httpx.get(running.place + path, headers=headers, trust_env=False, timeout=20)


def test_the_address_is_exchanged_for_a_cookie(running: Studio) -> None:
    reply = knock(running, f"?a=1&token={running.key}&__theme=dark&b=%0d%0aX:1")

    assert (reply.status_code, reply.headers["location"]) == (303, "/?a=1&__theme=dark&b=%0D%0AX%3A1")
    kept, *said = reply.headers["set-cookie"].split("; ")
    assert kept == running.cookie
    assert running.key not in kept
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} < set(said)
    assert (reply.headers["cache-control"], reply.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert knock(running, "?token=old", Cookie=f"other=1; {running.cookie}").headers["location"] == "/"


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "{name}=",
        "{name}",
        "{name}={key}",
        "{name}=x{value}",
        "{name}={value}x",
        "x{name}={value}",
        "{name}=é",
        "; ;=;",
    ],
)
def test_no_other_cookie_opens(running: Studio, cookie: str) -> None:
    name, _, value = running.cookie.partition("=")
    wrong = cookie.format(name=name, value=value, key=running.key)
    connection = http.client.HTTPConnection("127.0.0.1", running.port)
    connection.putrequest("GET", "/health")
    connection.putheader("Cookie", wrong.encode("latin-1"))
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize("token", ["", "x", "é", "{key}x", "{start}", "{key}&token=x", "{cookie}", "1.2", "x" * 50_000])
def test_no_other_token_opens(running: Studio, token: str) -> None:
    wrong = token.format(key=running.key, start=running.key[:-1], cookie=running.cookie.split("=")[1])
    assert knock(running, f"?token={wrong}").status_code in (403, 400)
    assert knock(running, f"config?token={running.key}").status_code == 403  # only the page itself takes it


def test_every_route_asks(home: Path) -> None:
    """Whatever gradio and the studio answer to, none of it answers without the cookie."""
    from starlette.routing import Mount, Route
    from starlette.testclient import TestClient
    from starlette.websockets import WebSocketDisconnect

    def routes(each: Any, before: str = "") -> Iterator[tuple[str, str]]:
        for route in getattr(each, "routes", None) or ():
            if isinstance(route, Mount):
                yield from routes(route, before + route.path)
            elif inner := getattr(route, "original_router", None):
                yield from routes(inner, before)
            elif isinstance(route, Route):
                for method in route.methods or {"GET"}:
                    yield method, before + route.path

    make_home()
    guard = app.build(7860, KEY)
    outer = guard.app._app._app.app  # door, uploads, opening
    found = set(routes(outer))
    assert len(found) > 50
    assert ("GET", "/health") in found
    assert any(path.endswith("/upload") for _, path in found)
    client = TestClient(guard, base_url="http://127.0.0.1:7860", follow_redirects=False)
    for method, path in sorted(found):
        assert client.request(method, path.replace("{", "").replace("}", "").replace(":path", "")).status_code == 403, (
            path
        )
    with pytest.raises(WebSocketDisconnect, check=lambda error: error.code == 1008), client.websocket_connect("/x"):
        pass
    name, _, value = door.cookie(KEY).partition("=")
    client.cookies.set(name, value)
    assert client.get("/health").status_code == 200


def test_a_ticket_opens_once_and_soon(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = door.Door(lambda *_: None, KEY, None)  # type: ignore[arg-type, return-value]
    given = door.ticket(KEY)
    assert [opened._opens(given) for _ in range(2)] == [True, False]
    assert not opened._opens(door.ticket("other"))
    late = door.ticket(KEY)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 301 * 10**9)
    assert not opened._opens(late)


def test_the_browser_is_opened_with_a_ticket(running: Studio, tmp_path: Path) -> None:
    """Its command line is for every user's eyes, and worth nothing once the page is open."""
    told = tmp_path / "told"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {told}.new && mv {told}.new {told}\n')
    browser.chmod(0o755)
    line = [each for each in command() if each != "--no-browser"]
    shown = {"DISPLAY": ":99", "BROWSER": str(browser), "SSH_CONNECTION": ""}
    subprocess.run(line, env=environment(running.home, **shown), check=True, capture_output=True, timeout=60)
    while not told.exists():
        time.sleep(0.05)
    url = told.read_text().strip()
    assert url.startswith(f"{running.place}?token=")
    assert running.key not in url
    path = url.removeprefix(running.place[:-1])
    assert [get(running.port, path)[0] for _ in range(2)] == [303, 403]


# Whose a connection is


@contextmanager
def accepted(uid: int, end: str) -> Iterator[tuple[socket.socket, Any]]:
    """A connection of that user whose other end is open, closed or reset."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        child = os.fork()
        if child == 0:
            try:
                os.setgid(uid)
                os.setuid(uid)
                there = socket.socket()
                there.connect(listener.getsockname())
                if end == "reset":
                    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if end == "half":
                    there.shutdown(socket.SHUT_WR)
                elif end != "open":
                    there.close()
                time.sleep(30)
            finally:
                os._exit(0)
        here, theirs = listener.accept()
        time.sleep(0.2)
        try:
            yield here, theirs
        finally:
            here.close()
            os.kill(child, 9)
            os.waitpid(child, 0)


@other_user
@pytest.mark.parametrize("end", ["open", "half", "closed", "reset"])
@pytest.mark.parametrize("uid", [0, OTHER])
def test_whose_a_connection_is(uid: int, end: str) -> None:
    with accepted(uid, end) as (here, theirs):
        foreign = peer.is_foreign(here.getsockname(), theirs)
    assert foreign == (uid != os.getuid() or end in ("closed", "reset"))


def test_where_nobody_tells_the_key_alone_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Windows around this Linux brings its browser's connection in, whose other end has no line in the tables."""
    ours, theirs = ("127.0.0.1", 7860), ("127.0.0.1", 50000)
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    line = "   0: 0100007F:1EB4 0100007F:C350 {} 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4\n"
    monkeypatch.setattr(sockets, "_NET", tmp_path)
    assert not peer.is_foreign(ours, theirs)  # no Linux
    (tmp_path / "tcp").write_text(head + line.format("01"))
    assert not peer.is_foreign(ours, theirs)
    (tmp_path / "tcp").write_text(head + line.format("08"))  # it was closed
    assert peer.is_foreign(ours, theirs)


# A second start, and files


@pytest.mark.slow
def test_the_record_comes_back_and_is_found(tmp_path: Path) -> None:
    with studio(tmp_path) as running:
        record = tmp_path / "state/studio.json"
        record.unlink()
        second = subprocess.run(command(), env=environment(tmp_path), capture_output=True, text=True, timeout=60)
        assert (second.returncode, running.url in second.stdout.splitlines()) == (0, True)
        assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert not record.exists()


def test_a_studio_that_does_not_answer_is_not_joined_by_a_second(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "STARTING_S", 0.2)
    holder = "import sys, time; from glmstudio.ui.shell.instance import claim; x = claim(); print(1, flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, env=environment(home))
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(StudioError) as caught:
        instance.claim()
    child.kill()
    child.wait()
    child.stdout.close()
    assert (
        caught.value.what()
        == f"A studio for this folder is already running (process {child.pid}), but does not answer."
    )
    claim = instance.claim()
    assert isinstance(claim, instance.Claim)
    claim.release()


def test_files_of_the_home_are_the_owners_alone(home: Path, tmp_path: Path) -> None:
    make_home()
    before = os.umask(0o027)
    try:
        for file in (home / "state/a.json", home / "b/c.json", tmp_path / "d.json"):
            write_text(file, "x")
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE(each.stat().st_mode) for each in (home, home / "state", home / "state/a.json", home / "b/c.json")
    ]
    assert modes == [0o700, 0o700, 0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "d.json").stat().st_mode) == 0o640
    home.chmod(0o755)  # of a home that somebody opened, the secrets stay closed
    (home / "state").chmod(0o755)
    make_home()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (home, home / "state")] == [0o755, 0o700]


def test_a_port_is_taken_before_it_is_open() -> None:
    with take("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with socket.socket() as early, pytest.raises(ConnectionRefusedError):
            early.connect(("127.0.0.1", port))
        assert open_up(taken) == port
        with socket.socket() as client:
            client.connect(("127.0.0.1", port))
        with pytest.raises(StudioError, match="used by another program"):
            take("127.0.0.1", port)


@pytest.mark.parametrize(
    ("text", "key"), [("short", "weak"), ("with space " * 3, "weak"), ("", "weak"), (None, "unread")]
)
def test_a_key_that_is_none(tmp_path: Path, text: str | None, key: str) -> None:
    file = tmp_path / "key"
    if text is not None:
        file.write_text(text)
    with pytest.raises(StudioError) as caught:
        given_key(file)
    assert caught.value.key == f"chat.serve.key_{key}"


def test_a_key_comes_from_the_file_then_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "e" * 20)
    (tmp_path / "key").write_text("f" * 20 + "\n")
    assert [given_key(tmp_path / "key"), given_key(None)] == ["f" * 20, "e" * 20]


@pytest.mark.skipif(bool(unfenced()), reason="this machine has no fence")
def test_a_tool_with_the_network_gets_nothing_from_the_page(running: Studio, tmp_path: Path) -> None:
    """It runs as the owner, so only the key keeps it out; and no file that it may read holds that."""
    file = tmp_path / "asks.py"
    file.write_text(
        "import http.client\n\ndef asks() -> list:\n    'Asks.'\n    said = []\n"
        f"    for path in ('/', '/health', '/gradio_api/info', '/?token=x'):\n"
        f"        c = http.client.HTTPConnection('127.0.0.1', {running.port})\n"
        "        c.request('GET', path)\n        said.append(c.getresponse().status)\n"
        f"    for name in ('studio.json', 'studio.lock'):\n        try:\n"
        f"            said.append(open({str(running.home / 'state')!r} + '/' + name).read())\n"
        "        except OSError as error:\n            said.append(type(error).__name__)\n    return said\n"
    )
    tool = Tool("asks", "Asks.", {"type": "object", "properties": {}}, "asks.py", "ask", file, ("network",))
    said = call(tool, {}, cancel=threading.Event()).content
    assert running.key not in said
    assert "403" in said
    assert "200" not in said
    assert "303" not in said
    assert paths().home != running.home
