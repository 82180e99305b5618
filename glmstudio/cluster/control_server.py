"""The roll call: the first machine's control service, with which the other machines of a run speak.

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
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from glmstudio import untrusted
from glmstudio.cluster.member import HERE, Member, why_closed
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.rundir.fingerprint import difference, what_differs
from glmstudio.rundir.machines import Cluster

CODE_HEADER = "X-Join-Code"
SILENT = 6.0  # seconds without a word after which a machine counts as lost; it speaks every second
BODY = 128 << 10  # bytes of one message
_LOG = 16 << 20  # bytes that are kept of a machine's log
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
    """Who is there. Its owner reads and changes `members`, `restarts` and `order`; all else happens in threads.

    `order`: what everybody does: go (as far as admitted), stop (end at once), over (`outcome` says how it ended).
    """

    def __init__(self, cluster: Cluster, offer: RunOffer, folder: Path, code: str) -> None:
        self.cluster, self._offer, self._folder, self._code = cluster, offer, folder, code
        self.members = [Member(number, each) for number, each in enumerate(cluster.machines, 1)]
        self.members[0].turn("joined")
        self.members[0].host, self.members[0].facts = socket.gethostname(), dict(offer.facts)
        self.order, self.outcome, self.restarts, self.until = "go", "", 0, 0.0
        self._lock = threading.RLock()
        self._server: ThreadingHTTPServer | None = None
        self._written = 0.0

    @property
    def others(self) -> list[Member]:
        """All but the first machine."""
        return self.members[1:]

    def open(self) -> None:
        """Begin to listen. Raises StudioError where the port is taken."""
        handler = type("Handler", (_Handler,), {"rollcall": self})
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

    def sweep(self) -> list[Member]:
        """Who has fallen silent since the last look; they count as lost now."""
        with self._lock:
            now = time.monotonic()
            quiet = [each for each in self.others if each.state in HERE and now - each.heard > SILENT]
            for each in quiet:
                each.turn("lost")
                each.problem = StudioError("cluster.silent", machine=each.name)
            return quiet

    def write(self, *, at_once: bool = False) -> None:
        """Write `cluster.json`, once a second at most."""
        now = time.monotonic()
        if now - self._written < 1 and not at_once:
            return
        self._written = now
        with self._lock:
            machines = [each.to_json() for each in self.members]
        about = {"until": self.until or None, "restarts": self.restarts, "order": self.order, "machines": machines}
        with suppress(OSError):
            write_json(self._folder / "cluster.json", about, parents=False)

    def knows(self, code: str) -> bool:
        """Whether this is the run's join code."""
        return hmac.compare_digest(code.encode("utf-8", "replace"), self._code.encode())

    def answer(self, path: str, message: dict[str, Any], sender: str) -> dict[str, Any]:
        """What is said to a message. Raises StudioError where it is refused."""
        with self._lock:
            member = self._member(message.get("machine"), sender, _text(message.get("token"), 64))
        if path == "/join":
            return self._join(member, message, sender)
        with self._lock:
            return self._news(member, message)

    def _member(self, number: Any, sender: str, token: str) -> Member:
        """Whose message it is."""
        if isinstance(number, int) and not isinstance(number, bool):
            found = next((each for each in self.others if each.number == number), None)
            if found is None:
                raise StudioError("cluster.no_number", number=number, most=len(self.members))
        else:
            mine = [each for each in self.others if each.machine.ip == sender]
            if not mine:
                listed = ", ".join(each.machine.address for each in self.others)
                raise StudioError("cluster.not_listed", ip=sender, listed=listed)
            found = mine[0]
        if len(token) < 8 or (found.state in HERE and not hmac.compare_digest(found.token, token)):
            raise StudioError("cluster.number_taken", machine=found.name)
        return found

    def _join(self, member: Member, message: dict[str, Any], sender: str) -> dict[str, Any]:
        """Take a machine in, once it has told its facts; before that, tell it what is asked of it."""
        if self.order != "go":
            raise StudioError("cluster.run_over", run=self._offer.run)
        facts = message.get("facts")
        about = {
            "machine": member.number,
            "run": self._offer.run,
            "job": self._offer.job,
            "settings": dict(self._offer.settings),
            "cluster": self.cluster.to_json(),
        }
        if facts is None:
            return about
        member.host = _text(message.get("host"), 64)
        problem = self._unfit(member, untrusted.table(facts), message, sender)
        with self._lock:
            member.problem = problem
            if problem:
                member.turn("refused")
                raise problem
            member.token, member.admitted, member.fatal = _text(message.get("token"), 64), False, False
            member.facts = {name: _text(untrusted.table(facts).get(name), 64) for name in self._offer.facts}
            member.heard, member.heard_at = time.monotonic(), time.time()
            member.turn("joined")
        return about | {"order": "wait", "restarts": self.restarts}

    def _unfit(self, member: Member, facts: dict[str, Any], message: dict[str, Any], sender: str) -> StudioError | None:
        """Why a machine cannot take part."""
        if found := difference(self._offer.facts, facts):
            name, ours, theirs = found
            what, theirs = what_differs(name), _text(theirs, 64)
            return StudioError("cluster.differs", machine=member.name, what=what, ours=ours, theirs=theirs)
        port = message.get("listens")
        if not isinstance(port, int) or not 0 < port < 65536 or why_closed(sender, port):
            return StudioError("cluster.unreachable_from_first", machine=member.name, ip=sender, port=port)
        return None

    def _news(self, member: Member, message: dict[str, Any]) -> dict[str, Any]:
        if not member.token or member.state == "lost":
            return {"order": "join"}  # it was away for too long, or the first machine has begun anew
        member.heard, member.heard_at = time.monotonic(), time.time()
        state = message.get("state")
        if state in ("joined", "training", "ended", "gone"):
            member.turn(state)
        if state == "gone" and self.order == "go":
            member.problem, member.admitted = StudioError("cluster.left", machine=member.name), False
        if state == "failed":
            told = untrusted.problem(message.get("problem"))
            member.problem = told or StudioError("cluster.broke", machine=member.name)
            member.fatal, member.admitted = message.get("fatal") is True, False
            member.turn("joined")
        elif state == "training":
            member.problem = None
        member.memory = max(0, int(untrusted.number(message.get("memory"))))
        self._keep_log(member, message.get("log"))
        order = self.order if self.order != "go" or member.admitted else "wait"
        return {"order": order, "restarts": self.restarts, "outcome": self.outcome}

    def _keep_log(self, member: Member, text: Any) -> None:
        if not isinstance(text, str) or not text or member.logged > _LOG:
            return
        data = text.encode("utf-8", "replace")
        member.logged += len(data)
        folder = self._folder / "machines" / str(member.number)
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "train.log").open("ab") as log:
                log.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who breaks a connection off has nothing to say to the log."""


class _Handler(BaseHTTPRequestHandler):
    rollcall: ControlServer
    timeout = _SPEAKING

    def do_POST(self) -> None:
        """One message, one answer."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY:
            self._say(400, StudioError("cluster.not_understood"))
            return
        body = self.rfile.read(int(length))  # whatever is answered: what is left unread would cut the answer off
        if not self.rollcall.knows(self.headers.get(CODE_HEADER, "")):
            self._say(403, StudioError("cluster.wrong_code"))
            return
        if self.path not in ("/join", "/news"):
            self._say(400, StudioError("cluster.not_understood"))
            return
        try:
            message = json.loads(body)
            if not isinstance(message, dict):
                raise TypeError
            answer = self.rollcall.answer(self.path, message, self.client_address[0])
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


def _text(value: Any, most: int) -> str:
    """A short printable text of what somebody sent."""
    return "".join(each for each in value[:most] if each.isprintable()) if isinstance(value, str) else ""
