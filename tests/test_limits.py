"""Clients that never end what they ask are cut off by a real server; those that are only slow are served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from glmstudio.access.connection_limits import Limits, limited
from tests.e2e.studio import studio
from tests.marks import slow
from tests.servers import served
from tests.waiting import until

LIMITS = Limits(head_s=1.5, body_s=1.5, body_bytes=1000, connections=8)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE_S = 60


@dataclass
class App:
    """Answers with how many bytes came, as a stream of so many lines where asked for `/stream`, late at `/late`."""

    left: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/early":
            await self._answer(send, b"early")
            return
        if scope["path"] == "/late":
            await asyncio.sleep(3 * LIMITS.body_s)
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.append(scope["path"])
                return
            size, more = size + len(message["body"]), message["more_body"]
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for number in range(8):
                await asyncio.sleep(LIMITS.head_s / 3)
                await send({"type": "http.response.body", "body": b"%d " % number, "more_body": True})
            await send({"type": "http.response.body", "body": b"over"})
            return
        await self._answer(send, bytes(20 << 20) if scope["path"] == "/large" else b"%d bytes" % size)

    async def _answer(self, send: Any, body: bytes) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def connect(app: App) -> Iterator[Callable[[], socket.socket]]:
    """New connections to a server with small limits."""
    config = uvicorn.Config(app, http=limited(AutoHTTPProtocol, LIMITS), ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    with contextlib.ExitStack() as opened:

        def new() -> socket.socket:
            made = socket.create_connection(listener.getsockname(), timeout=PATIENCE_S)
            return opened.enter_context(made)

        yield new
    server.should_exit = True
    thread.join(PATIENCE_S)
    listener.close()
    assert not thread.is_alive()


def read(client: socket.socket, until: bytes = b"") -> bytes:
    """What comes up to `until`, or to the end of the connection."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while not (until and until in found) and (block := client.recv(1 << 20)):
            found += block
    return found


def gone(clients: list[socket.socket]) -> list[socket.socket]:
    """Those that the server has closed."""
    return select.select(clients, [], [], 0)[0]


def drip(client: socket.socket, piece: bytes) -> None:
    """Send it again and again until the server has cut the connection off."""
    end = time.monotonic() + PATIENCE_S
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            client.sendall(piece)
            time.sleep(0.05)
    assert time.monotonic() < end, "it was never cut off"


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\n", GET[:-1]])
def test_headers_that_never_end(connect: Callable[[], socket.socket], sent: bytes) -> None:
    client = connect()
    client.sendall(sent)
    assert read(client) == b""


def test_headers_that_come_letter_by_letter(connect: Callable[[], socket.socket]) -> None:
    client = connect()
    client.sendall(b"GET / HTTP/1.1\r\nX: ")
    drip(client, b"x")


@pytest.mark.parametrize("path", [b"/", slow(b"/early")])
def test_the_next_request_has_its_own_time(connect: Callable[[], socket.socket], path: bytes) -> None:
    client = connect()
    for _ in range(12):
        time.sleep(LIMITS.head_s / 8)
        client.sendall(GET.replace(b"/ ", path + b" "))
        assert b"200 OK" in read(client, b"early" if path == b"/early" else b"bytes")
    drip(client, b"x")


@pytest.mark.parametrize("headers", [b"Content-Length: 99999999", b"Transfer-Encoding: chunked"])
def test_a_body_that_never_ends(connect: Callable[[], socket.socket], app: App, headers: bytes) -> None:
    client = connect()
    client.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n")
    drip(client, b"1\r\nx\r\n" if b"chunked" in headers else b"x")
    until(lambda: app.left == ["/body"])


def test_a_body_that_is_refused_before_it_was_sent(connect: Callable[[], socket.socket]) -> None:
    client = connect()
    client.sendall(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    assert read(client, b"early").endswith(b"early")
    drip(client, b"x")


def test_a_long_upload_is_served(connect: Callable[[], socket.socket]) -> None:
    client = connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n")
    for _ in range(40):
        client.sendall(bytes(1000))
        time.sleep(LIMITS.body_s / 20)
    assert read(client, b"bytes").endswith(b"40000 bytes")


def test_a_server_that_is_late_itself_blames_nobody(connect: Callable[[], socket.socket]) -> None:
    """It does not read on meanwhile, so the client can send nothing."""
    client = connect()
    size = 30 << 20  # more than the system keeps for both
    sender = threading.Thread(
        target=client.sendall,
        args=(b"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + bytes(size),),
    )
    sender.start()
    assert read(client, b"bytes").endswith(b"%d bytes" % size)
    sender.join()


@pytest.mark.slow
def test_a_long_stream_and_a_slow_reader_are_served(connect: Callable[[], socket.socket]) -> None:
    stream, large = connect(), connect()
    for client, path in ((stream, b"/stream "), (large, b"/large ")):
        client.sendall(GET.replace(b"/ ", path))
    got = 0
    while block := large.recv(1 << 18):
        got += len(block)
        time.sleep(0.02)
    assert got > 20 << 20
    said = read(stream, b"over")
    assert b"".join(b"%d " % number for number in range(8)) in said.replace(b"\r\n2\r\n", b"")


@pytest.mark.slow
def test_a_reader_that_takes_nothing_more_is_let_go(connect: Callable[[], socket.socket]) -> None:
    """The answer was given; its rest is not kept for ever."""
    client = connect()
    client.sendall(GET.replace(b"/ ", b"/large "))
    drip(client, b"x")


def test_of_many_connections_those_that_ask_nothing_go_first(connect: Callable[[], socket.socket]) -> None:
    streams = [connect() for _ in range(3)]
    for each in streams:
        each.sendall(GET.replace(b"/ ", b"/stream "))
        read(each, b"200 OK")
    idle = [connect() for _ in range(20)]
    client = connect()
    client.sendall(GET)
    assert read(client, b"bytes").endswith(b"0 bytes")
    assert len(gone(idle)) >= 20 - LIMITS.connections
    assert all(b"over" in read(each, b"over") for each in streams)


def test_where_all_are_served_a_newcomer_is_not_let_in(connect: Callable[[], socket.socket]) -> None:
    streams = [connect() for _ in range(LIMITS.connections)]
    for each in streams:
        each.sendall(GET.replace(b"/ ", b"/stream "))
        read(each, b"200 OK")
    late = connect()
    with contextlib.suppress(ConnectionError):
        late.sendall(GET)
    assert b"200" not in read(late)
    assert all(b"over" in read(each, b"over") for each in streams)


@pytest.mark.slow  # 35 s: the limits as they are
def test_the_page_and_the_model_server_have_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with studio(tmp_path / "home") as page, served(tmp_path) as server:
        clients = [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for port in (page.port, server.port) * 2]
        for each in clients[:2]:
            each.sendall(b"GET / HTTP/1.1\r\n")
        for each, key in zip(
            clients[2:], (f"Cookie: {page.cookie}", "Authorization: Bearer the-studio-s-own"), strict=True
        ):
            path = "/v1/chat/completions" if "Bearer" in key else "/gradio_api/queue/join"
            each.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{key}\r\nContent-Length: 9999\r\n\r\n{{".encode())
        assert [read(each) for each in clients] == [b""] * 4
        for each in clients:
            each.close()
        assert "Traceback" not in server.log.read_text(encoding="utf-8")
        page.process.terminate()
        page.process.wait(PATIENCE_S)
        assert "Traceback" not in page.process.stdout.read()
