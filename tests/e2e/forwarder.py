"""What `ssh -L` and an editor's port forwarding do: another port, from which every byte goes to the studio's own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def forwarder(target: int) -> Iterator[int]:
    """A port of this machine that leads to `target`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, target), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, target: int) -> None:
    with contextlib.suppress(OSError):  # closed at the end
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", target))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_carry, args=(source, sink), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
