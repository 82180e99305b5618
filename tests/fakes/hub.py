"""A hub on this machine that speaks the download protocols of ModelScope and Hugging Face, with faults switched on.

The real clients work against it (`tests/test_fake_hub.py`). As a command:
`python -m tests.fakes.hub --root DIR [--port N] [--rate BYTES_PER_S] [--redirect] [--log FILE]`.
"""

from __future__ import annotations

import argparse
import base64
import bisect
import fcntl
import hashlib
import json
import os
import re
import secrets
import select
import socket
import struct
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TextIO
from urllib.parse import parse_qs, quote, unquote, urlsplit

_LARGE = 100_000  # bytes; Hugging Face keeps such files apart from git and knows their sha256
_PIECE = 4 << 20
_EXTRA = 7  # bytes that a file with a wrong length seems to have more


@dataclass
class Faults:
    """What goes wrong. Numbers and lists are used up as bodies (or listings) are asked for."""

    drop_after: Sequence[int] = ()  # each resets the connection of the next longer body after so many of its bytes
    forbid_ranges: bool = False  # 403 for every file asked for with a Range
    ignore_ranges: bool = False  # 200 with the whole file
    too_many: int = 0  # so many bodies get 429
    most_connections: int = 0  # more bodies than this at once get 429; 0: no limit
    retry_after: str = "0"  # what a 429 says
    errors: Sequence[int] = ()  # statuses of the next bodies
    listing_errors: Sequence[int] = ()
    wrong_length: int = 0  # so many bodies are of a file that seems to be longer than it is listed
    wrong_bytes: dict[str, int] = field(default_factory=dict)  # path -> so many bodies have one flipped bit; -1: all
    flip_at: int | None = None  # at which byte; None: in the middle of the file. Other bodies do not count
    stall_after: Sequence[int] = ()  # each silences the next longer body after so many of its bytes, for 60 s at most
    redirect: bool = False  # files are at signed addresses
    signature_uses: int = 0  # after so many uses an address answers 403; 0: never
    truncated: int = 0  # so many bodies end in their middle, without an error
    html: int = 0  # so many bodies are a login page
    sums: str = ""  # how listings write checksums: see SPELLED
    tags: str = ""  # and how answers tag files


SPELLED: dict[str, Callable[[str], str]] = {  # how hubs and what stands before them write a checksum
    "": str,
    "upper": str.upper,
    "prefix": lambda text: f"sha256:{text}",
    "quoted": lambda text: f'"{text}"',
    "weak": lambda text: f'W/"{text}"',
    "base64": lambda text: base64.b64encode(bytes.fromhex(text)).decode(),
    "short": lambda text: text[:32],
    "none": lambda text: "",
    "other": lambda text: hashlib.sha256(text.encode()).hexdigest(),
}


@dataclass(frozen=True)
class Request:
    """One request as it was answered."""

    method: str
    path: str  # of the file in its repository; empty for others
    kind: str  # list, body, other (as are HEAD and what is sent on to another address)
    start: int  # first and last byte asked for; 0 and -1 where it is no body
    end: int
    status: int
    sent: int  # bytes of the body given to the kernel
    user_agent: str
    authorization: str
    number: int  # in the order in which they began, from 1


class Hub:
    """The server; it runs in a `with`. `faults`, `rate`, `token` and `renamed` may be changed meanwhile."""

    def __init__(
        self, root: Path, faults: Faults | None = None, *, rate: float = 0, token: str = "", port: int = 0
    ) -> None:
        self.root, self.faults, self.rate, self.token = root.resolve(), faults or Faults(), rate, token
        self.renamed: dict[str, str] = {}  # old id -> new id
        self.log: TextIO | None = None
        self.signed: dict[str, tuple[str, str, str]] = {}  # token -> whose protocol, repository, path
        self._uses: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        self._requests: list[Request] = []
        self._running = self._begun = self._bodies = 0
        self._changed = threading.Condition()
        self._sums: dict[tuple[str, int, int], tuple[str, str]] = {}
        self._summing = threading.Lock()
        self._server = _Server(("127.0.0.1", port), self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Hub:  # noqa: PYI034  Self is not in Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()  # waits for the threads of all connections

    @property
    def requests(self) -> list[Request]:
        """What was answered so far, by its beginning. What just ends is waited for: its client may have it already."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running, 0.3)
            return self._requests

    @property
    def commit(self) -> str:
        """The revision at Hugging Face of the only repository."""
        (repo,) = [f"{each.parent.name}/{each.name}" for each in self.root.glob("*/*") if each.is_dir()]
        return self.commit_of(repo)

    def commit_of(self, repo: str) -> str:
        """The repository's revision at Hugging Face; another one as soon as a file is another."""
        found = hashlib.sha1(usedforsecurity=False)
        for path, file in (self.files(repo) or {}).items():
            found.update(f"{path} {file.stat().st_size} {self.sums(file)[0]}\n".encode())
        return found.hexdigest()

    def knows(self, repo: str, revision: str) -> bool:
        """Whether the repository has this revision."""
        return revision in ("master", "main", "v1.0") or revision == self.commit_of(repo)

    def sent(self, path: str = "") -> int:
        """Body bytes sent until now, of one file or of all; never fewer than the clients have."""
        with self._changed:
            return self._sent[path] if path else self._sent.total()

    def files(self, repo: str) -> dict[str, Path] | None:
        """The files of a repository by their paths in it; None where there is no such repository."""
        base = (self.root / repo).resolve()
        if self.root not in base.parents or not base.is_dir():
            return None
        return {file.relative_to(base).as_posix(): file for file in sorted(base.rglob("*")) if file.is_file()}

    def sums(self, file: Path) -> tuple[str, str]:
        """The sha256 of a file, and the sha1 that git gives it."""
        with self._summing:
            about = file.stat()
            key = (str(file), about.st_size, about.st_mtime_ns)
            if key not in self._sums:
                whole = hashlib.sha256()
                git = hashlib.sha1(b"blob %d\0" % about.st_size, usedforsecurity=False)
                with file.open("rb") as stream:
                    while block := stream.read(_PIECE):
                        whole.update(block)
                        git.update(block)
                self._sums[key] = (whole.hexdigest(), git.hexdigest())
            return self._sums[key]

    def use(self, name: str, below: float = float("inf")) -> int | None:
        """Take the next of a fault's list if it is small enough, or count its number down; None where none is left."""
        with self._changed:
            left = getattr(self.faults, name)
            if not left or (not isinstance(left, int) and left[0] >= below):
                return None
            setattr(self.faults, name, left - 1 if isinstance(left, int) else left[1:])
            return left if isinstance(left, int) else left[0]

    def flip(self, path: str, size: int, body: range) -> int:
        """The byte with a wrong bit in this body; -1 for none."""
        with self._changed:
            where = size // 2 if self.faults.flip_at is None else self.faults.flip_at
            left = self.faults.wrong_bytes.get(path, 0)
            if not left or where not in body or where >= size:
                return -1
            if left > 0:
                self.faults.wrong_bytes[path] = left - 1
            return where

    def sign(self, protocol: str, repo: str, path: str) -> str:
        """A new signed address of a file."""
        token = secrets.token_hex(16)
        self.signed[token] = (protocol, repo, path)
        return f"{self.url}/signed/{token}/{quote(path)}"

    def expired(self, token: str) -> bool:
        """Use a signed address once; True where it was used too often."""
        with self._changed:
            self._uses[token] += 1
            return 0 < self.faults.signature_uses < self._uses[token]

    @contextmanager
    def body(self) -> Iterator[bool]:
        """The time of one body; False where there are too many at once.

        One that ends now is waited for: its client may have everything, and ask for the next, before that is noticed.
        """
        with self._changed:
            most = self.faults.most_connections
            free = not most or self._changed.wait_for(lambda: self._bodies < most, 0.1)
            self._bodies += free
        try:
            yield free
        finally:
            with self._changed:
                self._bodies -= free
                self._changed.notify_all()

    def begin(self) -> int:
        """Say that a request is being answered; its number."""
        with self._changed:
            self._running += 1
            self._begun += 1
            return self._begun

    def note(self, request: Request) -> None:
        """Say that a request was answered. The next one may be sooner: its client did not wait for this."""
        with self._changed:
            self._running -= 1
            bisect.insort(self._requests, request, key=lambda each: each.number)
            if self.log:
                print(json.dumps(asdict(request)), file=self.log, flush=True)
            self._changed.notify_all()

    def count(self, path: str, number: int) -> None:
        """Count body bytes."""
        with self._changed:
            self._sent[path] += number


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        super().__init__(address, _Handler)
        self.hub = hub
        self._open: set[Any] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        # The base class ends the connection in an orderly way first, which would make a reset look like an end.
        with self._lock:
            self._open.discard(request)
            self.close_request(request)

    def hang_up(self) -> None:
        """Wake every thread that sends to a client or waits for it."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients may go whenever they like
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    clock = 0.0  # until when this connection has sent what its rate allows

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.hub = self.server.hub
        self.file, self.kind, self.first, self.last, self.status, self.sent = "", "other", 0, -1, 0, 0
        number = self.hub.begin()
        try:
            self._route()
        except ConnectionError:  # the client is gone
            self.close_connection = True
        finally:
            about = (self.headers.get("User-Agent", ""), self.headers.get("Authorization", ""))
            what = (self.command, self.file, self.kind, self.first, self.last)
            self.hub.note(Request(*what, self.status, self.sent, *about, number))

    do_HEAD = do_GET  # noqa: N815  the base class asks for this name

    # ---- which answer

    def _route(self) -> None:
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        match [unquote(part) for part in address.path.split("/") if part]:
            case ["signed", token, *_]:
                self._signed(token)
            case _ if not self._allowed():
                self._json({"Code": 401, "Success": False, "Message": "log in", "error": "log in"}, 401)
            case ["api", "v1", "models", owner, name, *rest]:
                self._modelscope(f"{owner}/{name}", rest, query)
            case parts if repo := self._renamed(parts):
                self._answer(307, {"Location": self.path.replace(repo, self.hub.renamed[repo], 1)})
            case ["api", "models", owner, name, *rest]:
                self._hugging_face(f"{owner}/{name}", rest, query)
            case [owner, name, "resolve", revision, *path]:
                self._resolve(f"{owner}/{name}", revision, "/".join(path))
            case _:
                self._missing()

    def _allowed(self) -> bool:
        token, cookie = self.hub.token, self.headers.get("Cookie", "")
        return not token or self.headers.get("Authorization") == f"Bearer {token}" or f"m_session_id={token}" in cookie

    def _renamed(self, parts: list[str]) -> str:
        repo = "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2])
        return repo if repo in self.hub.renamed else ""

    def _modelscope(self, repo: str, rest: list[str], query: dict[str, str]) -> None:
        self.kind, files = "list" if rest == ["repo", "files"] else "other", self.hub.files(repo)
        if files is None or not self.hub.knows(repo, query.get("Revision", "master")):
            self._missing()
        elif rest == ["repo", "files"]:
            if self._lists():
                deep = query.get("Recursive", "").lower() == "true"
                shown = _folder(files, query.get("Root", ""), deep=deep)
                entries = [self._entry(path, file) for path, file in shown.items()]
                self._json({"Code": 200, "Success": True, "Data": {"Files": entries, "IsVisual": 0}})
        elif rest == ["repo"] and query.get("FilePath") in files:
            self._download("modelscope", repo, query["FilePath"], files[query["FilePath"]])
        elif rest == ["revisions"]:
            branches, tags = ([{"Revision": name, "CreatedAt": 0}] for name in ("master", "v1.0"))
            self._json({"Code": 200, "Success": True, "Data": {"RevisionMap": {"Branches": branches, "Tags": tags}}})
        elif not rest:
            about = {"Name": repo.rpartition("/")[2], "Path": repo.partition("/")[0], "Visibility": 5}
            self._json({"Code": 200, "Success": True, "Data": about})
        else:
            self._missing()

    def _entry(self, path: str, file: Path | None) -> dict[str, Any]:
        named = {"Path": path, "Name": PurePosixPath(path).name}
        if file is None:
            return {**named, "Type": "tree", "Size": 0, "Sha256": "", "IsLFS": False}
        size = file.stat().st_size
        sha256 = SPELLED[self.hub.faults.sums](self.hub.sums(file)[0])
        return {**named, "Type": "blob", "Size": size, "Sha256": sha256, "IsLFS": _large(file)}

    def _hugging_face(self, repo: str, rest: list[str], query: dict[str, str]) -> None:
        self.kind, files = "list", self.hub.files(repo)
        deep, blobs = (query.get(name, "").lower() in ("true", "1") for name in ("recursive", "blobs"))
        if files is None:
            self._missing("RepoNotFound")
        elif rest and (rest[0] not in ("revision", "tree") or len(rest) < 2):
            self._missing()
        elif rest and not self.hub.knows(repo, rest[1]):
            self._missing("RevisionNotFound")
        elif not self._lists():
            pass
        elif rest[:1] == ["tree"]:
            shown = _folder(files, "/".join(rest[2:]), deep=deep)
            self._json([{"path": path, **self._blob(file, tree=True)} for path, file in shown.items()])
        else:
            siblings = [{"rfilename": path, **(self._blob(file) if blobs else {})} for path, file in files.items()]
            about = {"id": repo, "modelId": repo, "sha": self.hub.commit_of(repo), "private": False, "gated": False}
            self._json({**about, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})

    def _blob(self, file: Path | None, *, tree: bool = False) -> dict[str, Any]:
        """What Hugging Face says about a file; the two kinds of listing name the same things differently."""
        if file is None:
            return {"type": "directory", "size": 0, "oid": "0" * 40}
        size, (sha256, git) = file.stat().st_size, self.hub.sums(file)
        more: dict[str, Any] = {}
        if _large(file):  # git has only a note about it
            note = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
            git = hashlib.sha1(b"blob %d\0" % len(note) + note, usedforsecurity=False).hexdigest()
            spelled = SPELLED[self.hub.faults.sums](sha256)
            more["lfs"] = {"oid" if tree else "sha256": spelled, "size": size, "pointerSize": len(note)}
        named = {"type": "file", "oid": git} if tree else {"blobId": git}
        return {**named, "size": size, **more}

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        files = self.hub.files(repo)
        if files is None:
            self._missing("RepoNotFound")
        elif not self.hub.knows(repo, revision):
            self._missing("RevisionNotFound")
        elif path not in files:
            self._missing("EntryNotFound")
        else:
            self._download("hugging face", repo, path, files[path])

    def _lists(self) -> bool:
        """Whether a listing may be answered."""
        if status := self.hub.use("listing_errors"):
            self._json({"error": "a fault"}, status)
        return not status

    def _about(self, protocol: str, repo: str, file: Path) -> dict[str, str]:
        """Headers that a hub gives with a file."""
        about, tags = self._tags(protocol, repo, file), self.hub.faults.tags
        return {
            name: SPELLED[tags](text.strip('"')) if tags and "ETag" in name else text for name, text in about.items()
        }

    def _tags(self, protocol: str, repo: str, file: Path) -> dict[str, str]:
        sha256, git = self.hub.sums(file)
        if protocol == "modelscope":  # its store has tags of its own that say nothing about the content
            return {"ETag": f'"{sha256[:32].upper()}"', "X-Linked-ETag": sha256}
        about = {"X-Repo-Commit": self.hub.commit_of(repo), "ETag": f'"{sha256 if _large(file) else git}"'}
        if _large(file):
            about |= {"X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": str(file.stat().st_size)}
        return about

    def _download(self, protocol: str, repo: str, path: str, file: Path) -> None:
        about = self._about(protocol, repo, file)
        if self.hub.faults.redirect and not self._forbidden():
            self.file = path
            self._answer(302, {"Location": self.hub.sign(protocol, repo, path), **about})
        else:
            self._body(path, file, about)

    def _signed(self, token: str) -> None:
        """A file without a log-in: the address is enough."""
        protocol, repo, path = self.hub.signed.get(token, ("", "", ""))
        file = (self.hub.files(repo) or {}).get(path) if repo else None
        if file is None:
            self._missing()
        elif self.command == "GET" and self.hub.expired(token):
            self.file, self.kind = path, "body"
            self._json({"error": "expired"}, 403)
        else:
            self._body(path, file, self._about(protocol, repo, file))

    # ---- bodies

    def _body(self, path: str, file: Path, about: dict[str, str]) -> None:
        self.file = path
        if self.command == "HEAD":
            self._answer(200, {"Content-Length": str(file.stat().st_size), "Accept-Ranges": "bytes", **about})
            return
        self.kind = "body"
        with file.open("rb") as stream, self.hub.body() as free:
            size = os.fstat(stream.fileno()).st_size
            asked = self._asked(size, about["ETag"])
            self.first, self.last = asked or (0, size - 1)
            if self._objects(free=free):
                return
            if self.hub.use("wrong_length"):
                size += _EXTRA
                asked = self._asked(size, about["ETag"])
            if self.hub.faults.ignore_ranges:
                asked = None
            self.first, self.last = asked or (0, size - 1)
            if asked and self.first >= size:
                self._answer(416, {"Content-Range": f"bytes */{size}"})
                return
            headers = {"Content-Length": str(self.last + 1 - self.first), "Content-Type": "application/octet-stream"}
            if asked:
                headers["Content-Range"] = f"bytes {self.first}-{self.last}/{size}"
            self._answer(206 if asked else 200, {**headers, "Accept-Ranges": "bytes", **about})
            self._send(stream)

    def _asked(self, size: int, tag: str) -> tuple[int, int] | None:
        """First and last byte that are asked for; None for the whole file, as for a range that cannot be read."""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "").strip())
        if found is None or not any(found.groups()) or self.headers.get("If-Range", tag) != tag:
            return None
        first, last = found.groups()
        if not first:
            return max(0, size - int(last)), size - 1
        if last and int(last) < int(first):
            return None
        return int(first), min(int(last or size), size - 1)

    def _forbidden(self) -> bool:
        return self.hub.faults.forbid_ranges and "Range" in self.headers

    def _objects(self, *, free: bool) -> bool:
        """Whether something else is answered than the file."""
        if self._forbidden():
            self._json({"error": "no ranges here"}, 403)
        elif status := self.hub.use("errors"):
            self._json({"error": "a fault"}, status)
        elif not free or self.hub.use("too_many"):
            self._json({"error": "too many"}, 429, {"Retry-After": self.hub.faults.retry_after})
        elif self.hub.use("html"):
            page = b"<!DOCTYPE html><html><body>Please log in to this network.</body></html>\n"
            self._answer(200, {"Content-Type": "text/html", "Content-Length": str(len(page))})
            self.wfile.write(page)
            self.sent = len(page)
            self.hub.count(self.file, self.sent)
        else:
            return False
        return True

    def _send(self, stream: BinaryIO) -> None:
        length = self.last + 1 - self.first
        drop = self.hub.use("drop_after", length)
        stall = self.hub.use("stall_after", length) if drop is None else None
        ends = drop if stall is None else stall
        if ends is None and length and self.hub.use("truncated"):
            ends = length // 2
        body = range(self.first, self.first + (length if ends is None else ends))
        self._stream(stream.fileno(), body)
        self.close_connection = self.close_connection or ends is not None
        if drop is not None:
            self._reset()
        if stall is not None:
            select.select([self.connection], [], [], 60)  # until the client goes

    def _stream(self, file: int, body: range) -> None:
        """Send these bytes: of the file, and zeros past its end."""
        size = os.fstat(file).st_size
        flip, place = self.hub.flip(self.file, size, body), body.start
        self.clock = max(self.clock, time.monotonic())
        while place < body.stop:
            rate = self.hub.rate  # which may be changed meanwhile
            piece = max(1, min(_PIECE, int(rate / 100))) if rate else _PIECE
            end = min(mark for mark in (place + piece, body.stop, flip, flip + 1, size) if mark > place)
            data = b""
            if place == flip:
                data = bytes(byte ^ 1 for byte in os.pread(file, 1, place))
            elif place >= size:
                data = bytes(end - place)
            done = self._piece(file, place, end - place, data)
            place += done
            if rate:  # a delay may be made up for, but not a long one
                self.clock = max(self.clock, time.monotonic() - 0.1) + done / rate
                time.sleep(max(0.0, self.clock - time.monotonic()))

    def _piece(self, file: int, place: int, count: int, data: bytes) -> int:
        """Send one piece, which is counted before the client may have it."""
        self.hub.count(self.file, count)
        done = 0
        try:
            done = self.connection.send(data) if data else os.sendfile(self.connection.fileno(), file, place, count)
        finally:
            self.sent += done
            self.hub.count(self.file, done - count)
        if not done:
            raise ConnectionAbortedError("the file was cut short while it was sent")
        return done

    def _reset(self) -> None:
        """Let closing reset the connection, once the client has what was sent: a reset throws away the rest."""
        limit = time.monotonic() + 10
        while struct.unpack("i", fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4)))[0]:
            if time.monotonic() > limit:
                break
            time.sleep(0.001)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(value).encode()
        self._answer(status, {"Content-Type": "application/json", "Content-Length": str(len(text)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(text)

    def _missing(self, code: str = "") -> None:
        said = {"Code": 10010205001, "Success": False, "Message": "not found", "error": "not found"}
        self._json(said, 404, {"X-Error-Code": code} if code else None)


def _folder(files: dict[str, Path], root: str, *, deep: bool) -> dict[str, Path | None]:
    """What a listing of the folder `root` shows: files, and folders as None."""
    found: dict[str, Path | None] = {str(up): None for path in files for up in PurePosixPath(path).parents}
    found |= files
    prefix = f"{root.strip('/')}/".lstrip("/")
    shown = [path for path in sorted(found) if path != "." and path.startswith(prefix)]
    return {path: found[path] for path in shown if deep or "/" not in path[len(prefix) :]}


def _large(file: Path) -> bool:
    return file.stat().st_size > _LARGE or file.suffix in (".bin", ".safetensors", ".model")


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--redirect", action="store_true")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    with Hub(options.root, Faults(redirect=options.redirect), rate=options.rate, port=options.port) as hub:
        if options.log:
            hub.log = options.log.open("a", encoding="utf-8")
        print(f"READY {hub.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
