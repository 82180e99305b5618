"""The control server: with it the other machines of a run speak, at the first one.

HTTP and JSON at the port after torchrun's. Whoever speaks needs the run's join code; of what they say, only checked
values of known types are kept, and nothing of it ever names a path. What is known of all machines is written to
`cluster.json` in the run's folder, the logs of the others to `machines/<number>/train.log`.
"""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from glmstudio import untrusted
from glmstudio.cluster.member import Member, why_closed
from glmstudio.cluster.membership import Membership, printable, step
from glmstudio.cluster.membership_events import (
    AskToJoin,
    Event,
    Join,
    KeepLog,
    Order,
    Refuse,
    Reply,
    Sender,
    StatusReport,
)
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.rundir.machines import Cluster

CODE_HEADER = "X-Join-Code"
BODY = 128 << 10  # bytes of one message
_SPEAKING = 10.0  # seconds for one message


@dataclass(frozen=True)
class RunOffer:
    """What the first machine tells who joins: the run's name, torchrun's name for it (`job`), the settings, and its
    own facts (`rundir.fingerprint`)."""

    run: str
    job: str
    settings: Mapping[str, Any]
    facts: Mapping[str, str]


class ControlServer:
    """Who is there, in `state`. Whatever changes it is an event, from this server's threads or from its owner."""

    def __init__(self, cluster: Cluster, offer: RunOffer, folder: Path, code: str) -> None:
        self.cluster, self._offer, self._folder, self._code = cluster, offer, folder, code
        now = time.monotonic()
        members = [Member(number, each, since=now) for number, each in enumerate(cluster.machines, 1)]
        members[0] = replace(members[0], state="joined", host=socket.gethostname(), facts=dict(offer.facts))
        self.state = Membership(offer.run, cluster, tuple(members))
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._written = 0.0

    def open(self) -> None:
        """Begin to listen. Raises StudioError where the port is taken."""
        handler = type("Handler", (_Handler,), {"control": self})
        try:
            self._server = _Server((self.cluster.machines[0].ip, self.cluster.control), handler)
        except OSError as error:
            port = self.cluster.control
            raise StudioError("cluster.control_taken", port=port, given=self.cluster.port) from error
        threading.Thread(target=self._server.serve_forever, args=(0.2,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.write(at_once=True)

    def handle(self, event: Event) -> tuple[Order, ...]:
        """Let an event count; returns what has to be done. They come from many threads, and count one after another."""
        with self._lock:
            self.state, orders = step(self.state, event, time.monotonic())
        return orders

    def write(self, *, at_once: bool = False) -> None:
        """Write `cluster.json`, once a second at most."""
        now = time.monotonic()
        if now - self._written < 1 and not at_once:
            return
        self._written = now
        with suppress(OSError):
            write_json(self._folder / "cluster.json", self.state.to_json(time.time() - now), parents=False)

    def knows(self, code: str) -> bool:
        """Whether this is the run's join code."""
        return hmac.compare_digest(code.encode("utf-8", "replace"), self._code.encode())

    def answer(self, path: str, message: dict[str, Any], ip: str) -> dict[str, Any]:
        """What is said to a message. Raises StudioError where it is refused."""
        sender = Sender(ip, message.get("machine"), printable(message.get("token"), 64))
        if path != "/join":
            return self._reply(_report(sender, message))
        reply = self._reply(AskToJoin(sender))
        if message.get("facts") is not None:
            port, closed = message.get("listens"), None
            if not isinstance(port, int) or not 0 < port < 65536 or why_closed(ip, port):
                closed = str(port)
            host = printable(message.get("host"), 64)
            reply = self._reply(Join(sender, host, untrusted.table(message.get("facts")), closed))
        about = {"run": self._offer.run, "job": self._offer.job, "settings": dict(self._offer.settings)}
        return about | {"cluster": self.cluster.to_json()} | reply

    def _reply(self, event: AskToJoin | Join | StatusReport) -> dict[str, Any]:
        reply: dict[str, Any] = {}
        for order in self.handle(event):
            if isinstance(order, Refuse):
                raise order.problem
            if isinstance(order, KeepLog):
                self._keep_log(order)
            elif isinstance(order, Reply):
                reply = dict(order.values)
        return reply

    def _keep_log(self, order: KeepLog) -> None:
        folder = self._folder / "machines" / str(order.number)
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "train.log").open("ab") as log:
                log.write(order.data)


def _report(sender: Sender, message: dict[str, Any]) -> StatusReport:
    """What a machine reports, as far as it can be believed."""
    log = message.get("log")
    return StatusReport(
        sender,
        printable(message.get("state"), 16),
        untrusted.problem(message.get("problem")),
        fatal=message.get("fatal") is True,
        memory=max(0, int(untrusted.number(message.get("memory")))),
        log=log.encode("utf-8", "replace") if isinstance(log, str) else b"",
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who breaks a connection off has nothing to say to the log."""


class _Handler(BaseHTTPRequestHandler):
    control: ControlServer
    timeout = _SPEAKING

    def do_POST(self) -> None:
        """One message, one answer."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY:
            self._say(400, StudioError("cluster.not_understood"))
            return
        body = self.rfile.read(int(length))  # whatever is answered: what is left unread would cut the answer off
        if not self.control.knows(self.headers.get(CODE_HEADER, "")):
            self._say(403, StudioError("cluster.wrong_code"))
            return
        if self.path not in ("/join", "/news"):
            self._say(400, StudioError("cluster.not_understood"))
            return
        try:
            message = json.loads(body)
            if not isinstance(message, dict):
                raise TypeError
            answer = self.control.answer(self.path, message, self.client_address[0])
        except StudioError as problem:
            self._say(409, problem)
        except (ValueError, TypeError, RecursionError):
            self._say(400, StudioError("cluster.not_understood"))
        else:
            self._say(200, answer)

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def _say(self, status: int, value: StudioError | dict[str, Any]) -> None:
        told = {"problem": value.to_json()} if isinstance(value, StudioError) else value
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
