"""The place where a server listens: taken before the model is loaded, open once it can answer."""

from __future__ import annotations

import socket

from glmstudio.errors import StudioError
from glmstudio.system import process

_WAITING = 2048  # connections, as uvicorn has it


def take(host: str, port: int) -> socket.socket:
    """A socket with this address, on which nobody is heard yet; port 0 is a free one. Raises StudioError."""
    if port and not process.port_is_free(port):
        raise StudioError("chat.port_taken", port=port)
    try:
        # Without its protocol, asyncio would not take it for TCP, and each small reply would wait 40 ms for another.
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudioError("chat.serve.no_place", host=host, port=port, reason=reason) from error
    return taken


def open_up(taken: socket.socket) -> int:
    """Let clients in; returns the port. Raises StudioError where another program was faster."""
    port: int = taken.getsockname()[1]
    try:
        taken.listen(_WAITING)
    except OSError as error:
        raise StudioError("chat.port_taken", port=port) from error
    return port
