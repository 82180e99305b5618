"""A hub on this machine that speaks the download protocols of ModelScope and Hugging Face, with faults switched on.

The real clients work against it (`tests/test_fake_hub.py`). As a command:
`python -m tests.fakes.hub --root DIR [--port N] [--rate BYTES_PER_S] [--redirect] [--log FILE]`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import struct
import threading
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

CONFIG = Path(__file__).parents[1] / "golden" / "model" / "config.json"
_LARGE = 100_000  # bytes; Hugging Face keeps such files apart from git and knows their sha256
_BLOCK = 1 << 18


@dataclass
class Faults:
    """What goes wrong. Numbers and lists are used up as bodies (or listings) are asked for."""

    drop_after: Sequence[int] = ()  # each cuts one body after so many of its bytes
    forbid_ranges: bool = False  # 403 for every request with a Range
    ignore_ranges: bool = False  # 200 with the whole file
    too_many: int = 0  # so many bodies get 429
    most_connections: int = 0  # more bodies than this at once get 429
    retry_after: str = "0"
    errors: Sequence[int] = ()  # statuses of the next bodies
    listing_errors: Sequence[int] = ()
    wrong_length: int = 0  # so many bodies announce another size of the file than it has
    wrong_bytes: dict[str, int] = field(default_factory=dict)  # path -> so many bodies have one flipped bit; -1: all
    flip_at: int | None = None  # where; None: in the middle of the file
    stall_after: Sequence[int] = ()  # each silences one body after so many of its bytes
    redirect: bool = False  # bodies come from a signed address
    signature_uses: int = 0  # after so many uses an address answers 403; 0: never
    truncated: int = 0  # so many bodies end before their announced length
    html: int = 0  # so many bodies are a login page


@dataclass(frozen=True)
class Request:
    """One request as it was answered. `sent` counts the body's bytes that were really sent."""

    method: str
    path: str
    kind: str  # list, body, other
    start: int
    end: int
    status: int
    sent: int
    user_agent: str
    authorization: str


class Hub:
    """A running server; use it in a `with`."""

    def __init__(
        self, root: Path, faults: Faults | None = None, *, rate: float = 0, token: str = "", port: int = 0
    ) -> None:
        self.root, self.faults, self.rate, self.token = root.resolve(), faults or Faults(), rate, token
        self.requests: list[Request] = []
        self.renamed: dict[str, str] = {}
        self.signed: dict[str, tuple[str, str, int]] = {}  # token -> repository, path, uses
        self.lock = threading.Lock()
        self.bodies = 0
        self.stopping = threading.Event()
        self._sums: dict[tuple[str, int, int], tuple[str, str]] = {}
        self._open: set[Any] = set()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Hub:  # noqa: PYI034  Self is not in Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(2)

    def sent(self, path: str = "") -> int:
        """Body bytes that were sent, of one file or of all."""
        return sum(each.sent for each in list(self.requests) if each.kind == "body" and path in ("", each.path))

    def files(self, repo: str) -> dict[str, Path] | None:
        """The files of a repository by their paths in it; None where there is no such repository."""
        base = (self.root / repo).resolve()
        if self.root not in base.parents or not base.is_dir():
            return None
        return {str(file.relative_to(base)): file for file in sorted(base.rglob("*")) if file.is_file()}

    def sums(self, file: Path) -> tuple[str, str]:
        """The sha256 of a file, and the sha1 that git gives it."""
        about = file.stat()
        key = (str(file), about.st_size, about.st_mtime_ns)
        if key not in self._sums:
            data = file.read_bytes()
            git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
            self._sums[key] = (hashlib.sha256(data).hexdigest(), git.hexdigest())
        return self._sums[key]

    def commit(self, repo: str) -> str:
        """The repository's revision at Hugging Face; another one as soon as a file is another."""
        found = hashlib.sha1(usedforsecurity=False)
        for name, file in (self.files(repo) or {}).items():
            found.update(f"{name} {self.sums(file)[0]}\n".encode())
        return found.hexdigest()

    def use(self, name: str) -> int:
        """Take one of a fault's list, or count its number down; 0 where it is used up."""
        with self.lock:
            left = getattr(self.faults, name)
            if isinstance(left, int):
                setattr(self.faults, name, max(0, left - 1))
                return left
            if not left:
                return 0
            setattr(self.faults, name, tuple(left[1:]))
            return int(left[0])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    file, kind, first, last, sent_status, sent = "", "other", 0, -1, 0, 0

    def setup(self) -> None:
        super().setup()
        self.hub._open.add(self.connection)

    def finish(self) -> None:
        self.hub._open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.file, self.kind, self.first, self.last, self.sent_status, self.sent = "", "other", 0, -1, 0, 0
        try:
            self._route()
        except OSError:  # the client is gone
            self.close_connection = True
        finally:
            self.hub.requests.append(
                Request(
                    self.command,
                    self.file,
                    self.kind,
                    self.first,
                    self.last,
                    self.sent_status,
                    self.sent,
                    self.headers.get("User-Agent", ""),
                    self.headers.get("Authorization", ""),
                )
            )

    do_HEAD = do_GET  # noqa: N815  the base class asks for this name

    # ---- which answer

    def _route(self) -> None:
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        parts = [unquote(part) for part in address.path.split("/") if part]
        if parts[:1] == ["signed"] and len(parts) > 1:
            self._signed(parts[1])
        elif self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._json({"Code": 401, "Message": "login required", "error": "login required"}, 401)
        elif parts[:3] == ["api", "v1", "models"] and len(parts) >= 5:
            self._modelscope("/".join(parts[3:5]), parts[5:], query)
        elif parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._hugging_face("/".join(parts[2:4]), parts[4:], query)
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._missing()

    def _modelscope(self, repo: str, rest: list[str], query: dict[str, str]) -> None:
        files = self.hub.files(repo)
        if files is None or query.get("Revision", "master") not in ("master", "v1.0"):
            self._missing()
        elif rest == ["repo", "files"]:
            if self._listing():
                root = query.get("Root", "").strip("/")
                deep = query.get("Recursive", "False").lower() == "true"
                listed = [self._entry(path, file) for path, file in files.items() if deep or "/" not in path]
                listed = [entry for entry in listed if not root or entry["Path"].startswith(root + "/")]
                self._json({"Code": 200, "Success": True, "Data": {"Files": listed}})
        elif rest == ["repo"] and query.get("FilePath") in files:
            path = query["FilePath"]
            self._download(repo, path, files[path], {"X-Linked-ETag": self.hub.sums(files[path])[0]})
        elif rest == ["revisions"]:
            branches = [{"Revision": "master", "CreatedAt": 0}]
            tags = [{"Revision": "v1.0", "CreatedAt": 0}]
            self._json({"Code": 200, "Data": {"RevisionMap": {"Branches": branches, "Tags": tags}}})
        elif not rest:
            owner, _, name = repo.partition("/")
            self._json({"Code": 200, "Data": {"Name": name, "Path": owner, "Visibility": 5}})
        else:
            self._missing()

    def _entry(self, path: str, file: Path) -> dict[str, Any]:
        return {
            "Path": path,
            "Name": path.rsplit("/", 1)[-1],
            "Type": "blob",
            "Size": file.stat().st_size,
            "Sha256": self.hub.sums(file)[0],
        }

    def _hugging_face(self, repo: str, rest: list[str], query: dict[str, str]) -> None:
        if new := self.hub.renamed.get(repo):
            self._answer(307, {"Location": self.path.replace(repo, new, 1), "Content-Length": "0"})
            return
        files = self.hub.files(repo)
        revision = rest[1] if len(rest) > 1 else "main"
        if files is None:
            self._missing("RepoNotFound")
        elif revision not in ("main", self.hub.commit(repo)):
            self._missing("RevisionNotFound")
        elif self._listing():
            if rest[:1] == ["tree"]:
                self._json([{"type": "file", "path": path, **self._blob(file)} for path, file in files.items()])
                return
            listed = [
                {"rfilename": path, **(self._blob(file) if query.get("blobs") == "true" else {})}
                for path, file in files.items()
            ]
            commit = self.hub.commit(repo)
            self._json({"id": repo, "modelId": repo, "sha": commit, "private": False, "tags": [], "siblings": listed})

    def _blob(self, file: Path) -> dict[str, Any]:
        sha256, git = self.hub.sums(file)
        size = file.stat().st_size
        blob = {"size": size, "blobId": git, "oid": git}
        if size > _LARGE or file.suffix in (".bin", ".safetensors", ".model"):
            blob["lfs"] = {"sha256": sha256, "oid": sha256, "size": size, "pointerSize": 130}
        return blob

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        if new := self.hub.renamed.get(repo):
            self._answer(307, {"Location": self.path.replace(repo, new, 1), "Content-Length": "0"})
            return
        files = self.hub.files(repo) or {}
        if revision not in ("main", self.hub.commit(repo)) or path not in files:
            self._missing("EntryNotFound")
            return
        sha256, git = self.hub.sums(files[path])
        large = "lfs" in self._blob(files[path])
        more = {"ETag": f'"{sha256 if large else git}"', "X-Repo-Commit": self.hub.commit(repo)}
        if large:
            more |= {"X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": str(files[path].stat().st_size)}
        self._download(repo, path, files[path], more)

    def _listing(self) -> bool:
        self.kind = "list"
        if status := self.hub.use("listing_errors"):
            self._json({"error": "try later"}, status)
        return not status

    def _signed(self, token: str) -> None:
        found = self.hub.signed.get(token)
        most = self.hub.faults.signature_uses
        if found is None or (most and found[2] >= most):
            self._json({"error": "expired"}, 403)
            return
        repo, path, uses = found
        self.hub.signed[token] = (repo, path, uses + 1)
        self._body(path, (self.hub.files(repo) or {})[path], {})

    def _download(self, repo: str, path: str, file: Path, more: dict[str, str]) -> None:
        if not self.hub.faults.redirect:
            self._body(path, file, more)
            return
        token = secrets.token_hex(8)
        self.hub.signed[token] = (repo, path, 0)
        self._answer(302, {"Location": f"/signed/{token}/{quote(path)}", "Content-Length": "0", **more})

    # ---- bodies

    def _body(self, path: str, file: Path, more: dict[str, str]) -> None:
        self.file, self.kind = path, "body"
        with self.hub.lock:
            self.hub.bodies += 1
            crowded = 0 < self.hub.faults.most_connections < self.hub.bodies
        try:
            if self._objects(crowded):
                return
            self._send(path, file, more)
        finally:
            with self.hub.lock:
                self.hub.bodies -= 1

    def _objects(self, crowded: bool) -> bool:
        """Whether a fault answers instead of the file."""
        hub = self.hub
        if crowded or hub.use("too_many"):
            self._json({"error": "too many"}, 429, {"Retry-After": hub.faults.retry_after})
        elif status := hub.use("errors"):
            self._json({"error": "try later"}, status)
        elif hub.faults.forbid_ranges and self.headers.get("Range"):
            self._json({"error": "no ranges"}, 403)
        elif hub.use("html"):
            page = b"<html>Please log in</html>"
            self._answer(200, {"Content-Type": "text/html", "Content-Length": str(len(page))})
            self.wfile.write(page)
        else:
            return False
        return True

    def _send(self, path: str, file: Path, more: dict[str, str]) -> None:
        size = file.stat().st_size
        ranged = self.headers.get("Range", "").removeprefix("bytes=") if not self.hub.faults.ignore_ranges else ""
        first, _, last = ranged.partition("-")
        self.first, self.last = int(first or 0), min(int(last or size - 1), size - 1)
        if ranged and self.first >= size > 0:
            self._answer(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        length = max(0, self.last + 1 - self.first)
        lie = 7 if self.hub.use("wrong_length") else 0
        headers = {"Content-Length": str(length + (0 if ranged else lie)), "Accept-Ranges": "bytes", **more}
        if ranged:
            headers["Content-Range"] = f"bytes {self.first}-{self.last}/{size + lie}"
        self._answer(206 if ranged else 200, headers)
        if lie and not ranged:
            self.close_connection = True
        if self.command != "HEAD" and length:
            self._stream(path, file, length)

    def _stream(self, path: str, file: Path, length: int) -> None:
        cut, silence = self.hub.use("drop_after"), self.hub.use("stall_after")
        if self.hub.use("truncated"):
            cut = cut or max(1, length // 2)
        flip = self._flip(path, file)
        begun = time.monotonic()
        with file.open("rb") as stream:
            while self.sent < length and not self.hub.stopping.is_set():
                if cut and self.sent >= cut:
                    self.close_connection = True
                    return
                if silence and self.sent >= silence:
                    self.close_connection = True
                    self.hub.stopping.wait(60)
                    return
                room = min((mark - self.sent for mark in (cut, silence) if mark), default=length)
                self._send_block(stream, min(length - self.sent, max(1, room)), flip)
                if self.hub.rate:
                    time.sleep(max(0.0, begun + self.sent / self.hub.rate - time.monotonic()))

    def _send_block(self, stream: Any, most: int, flip: int) -> None:
        offset = self.first + self.sent
        if flip < 0 and not self.hub.rate:
            self.wfile.flush()
            self.sent += os.sendfile(self.connection.fileno(), stream.fileno(), offset, most)
            return
        pace = max(512, min(_BLOCK, int(self.hub.rate / 100))) if self.hub.rate else _BLOCK
        block = bytearray(os.pread(stream.fileno(), min(most, pace), offset))
        if offset <= flip < offset + len(block):
            block[flip - offset] ^= 1
        self.wfile.write(block)
        self.sent += len(block)

    def _flip(self, path: str, file: Path) -> int:
        """The place of the wrong bit in this body; -1 for none."""
        faults = self.hub.faults
        where = faults.flip_at if faults.flip_at is not None else file.stat().st_size // 2
        with self.hub.lock:
            left = faults.wrong_bytes.get(path, 0)
            if not left or not self.first <= where <= self.last:
                return -1
            if left > 0:
                faults.wrong_bytes[path] = left - 1
        return where

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.sent_status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(value).encode()
        more = {"Content-Type": "application/json", "Content-Length": str(len(text)), **(headers or {})}
        self._answer(status, more)
        if self.command != "HEAD":
            self.wfile.write(text)

    def _missing(self, code: str = "") -> None:
        self._json({"Code": 404, "Message": "not found", "error": "not found"}, 404, {"X-Error-Code": code})


def make_model(
    root: Path,
    repo: str,
    *,
    layout: Literal["bin", "safetensors", "both"] = "bin",
    shards: int = 2,
    shard_bytes: int = 1 << 20,
    seed: int = 0,
) -> Path:
    """A repository that looks like ChatGLM3's: random weights in whole files, and some that nobody needs."""
    folder, chance = root / repo, Random(seed)
    (folder / "notes").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes(CONFIG.read_bytes())
    (folder / "tokenizer.model").write_bytes(chance.randbytes(30_000))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ChatGLMTokenizer"}')
    (folder / "MODEL_LICENSE").write_text("A licence.\n")
    for name in ("modeling_chatglm.py", "README.md", "notes/more.txt"):
        (folder / name).write_text("Nobody needs this.\n")
    for kind in ("bin", "safetensors") if layout == "both" else (layout,):
        _weights(folder, kind, shards, shard_bytes, chance)
    return folder


def _weights(folder: Path, kind: str, shards: int, shard_bytes: int, chance: Random) -> None:
    stem = "pytorch_model" if kind == "bin" else "model"
    table = {}
    for number in range(1, shards + 1):
        name = f"{stem}-{number:05d}-of-{shards:05d}.{kind}"
        table[f"tensor.{number}"] = name
        data = chance.randbytes(shard_bytes)
        if kind == "bin":
            with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(f"archive/data/{number}", data)
            continue
        head = {f"tensor.{number}": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
        text = json.dumps(head).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + data)
    index = {"metadata": {"total_size": shards * shard_bytes}, "weight_map": table}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))


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
        print(f"READY {hub.url}", flush=True)
        told = 0
        while True:
            time.sleep(0.05)
            fresh, told = hub.requests[told:], len(hub.requests)
            if options.log and fresh:
                with options.log.open("a") as log:
                    log.writelines(json.dumps(asdict(each)) + "\n" for each in fresh)


if __name__ == "__main__":
    main()
