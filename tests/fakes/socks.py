"""A SOCKS5 proxy on this machine, without a password: it connects to where it is told, and counts."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import cast


class Socks(ThreadingTCPServer):
    """The proxy; it runs in a `with`. `asked` are the places that it was told to connect to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, int]] = []
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Socks:  # noqa: PYI034
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError, EOFError):
            self._serve()

    def _serve(self) -> None:
        client = cast(socket.socket, self.request)
        _, count = self._take(2)
        self._take(count)
        client.sendall(b"\x05\x00")
        _, _, _, kind = self._take(4)
        host = socket.inet_ntoa(self._take(4)) if kind == 1 else self._take(self._take(1)[0]).decode()
        port = int.from_bytes(self._take(2), "big")
        cast(Socks, self.server).asked.append((host, port))
        try:
            there = socket.create_connection((host, port), timeout=10)
        except OSError:
            client.sendall(b"\x05\x04\x00\x01" + bytes(6))  # the host cannot be reached
            return
        client.sendall(b"\x05\x00\x00\x01" + bytes(6))
        with there:
            back = threading.Thread(target=_pass_on, args=(there, client), daemon=True)
            back.start()
            _pass_on(client, there)
            back.join()

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.request.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
