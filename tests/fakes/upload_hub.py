"""A hub on this machine that takes uploads as the clients of Hugging Face and ModelScope send them, and writes them to `root`.

`tests.fakes.hub.Hub(root)` serves them again. Written by what the clients really send (huggingface_hub 2.4, modelscope_hub 0.5).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 100_000  # bytes; what is larger is no part of a commit


class UploadHub:
    """The server; it runs in a `with`. Who has not the `token` is refused."""

    def __init__(self, root: Path, token: str) -> None:
        self.root, self.token = root, token
        self.private: dict[str, bool] = {}  # the repositories
        self.blobs: dict[str, bytes] = {}  # large files by their sha256
        self.sent: list[str] = []  # sha256 of the blobs that were sent, in order
        self.commits: list[list[str]] = []  # the paths of each
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        self.refused_commits = 0  # so many are answered with 403
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> UploadHub:  # noqa: PYI034  Self is not in Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self, repo: str) -> dict[str, bytes]:
        """What a repository holds."""
        folder = self.root / repo
        return {file.name: file.read_bytes() for file in sorted(folder.glob("*"))} if folder.is_dir() else {}

    def store(self, repo: str, path: str, content: bytes) -> None:
        assert re.fullmatch(r"[\w.-]+", path), path
        folder = self.root / repo
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer_to("GET")

    def do_POST(self) -> None:
        self._answer_to("POST")

    def do_PUT(self) -> None:
        self._answer_to("PUT")

    def _answer_to(self, method: str) -> None:
        self.hub: UploadHub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        self.hub.calls.append((method, path, dict(self.headers)))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if method == "PUT":
            self._blob(path.rpartition("/")[2], body)
        elif self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._json({"error": "log in", "Code": 401, "Message": "log in"}, 401)
        elif "/commit/" in path and self.hub.refused_commits:
            self.hub.refused_commits -= 1
            self._json({"error": "not now", "Code": 403, "Message": "not now"}, 403)
        elif not (self._hugging_face(method, path, body) or self._modelscope(method, path, body)):
            self._json({"error": "nothing there", "Code": 404, "Message": "nothing there"}, 404)

    def _blob(self, oid: str, body: bytes) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.blobs[oid] = body
        self.hub.sent.append(oid)
        self._json({})

    def _wanted(self, body: bytes) -> list[dict[str, Any]]:
        """An LFS batch: an address for each object that is not here."""
        told = []
        for each in json.loads(body)["objects"]:
            known = each["oid"] in self.hub.blobs
            actions = {"actions": {"upload": {"href": f"{self.hub.url}/blobs/{each['oid']}"}}}
            told.append(each | ({} if known else actions))
        return told

    # ---- Hugging Face

    def _hugging_face(self, method: str, path: str, body: bytes) -> bool:
        hub = self.hub
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            hub.private[repo] = asked.get("private") is True or asked.get("visibility") == "private"
            self._json({"url": f"{hub.url}/{repo}"})
        elif path == "/api/validate-yaml":  # of a README
            self._json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            if match[1] not in hub.private:
                if self.headers.get("User-Agent", "").startswith("modelscope"):
                    return False
                self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            else:
                self._json({"id": match[1], "private": hub.private[match[1]], "siblings": [], "sha": "0" * 40})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["size"] > LARGE else "regular",
                    "shouldIgnore": False,
                }
                for each in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._json({"transfer": "basic", "objects": self._wanted(body)})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self._commit_lines(match[1], body)
        else:
            return False
        return True

    def _commit_lines(self, repo: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        paths = []
        for line in lines[1:]:
            value = line["value"]
            inline = line["key"] == "file"
            content = base64.b64decode(value["content"]) if inline else self.hub.blobs[value["oid"]]
            self.hub.store(repo, value["path"], content)
            paths.append(value["path"])
        self.hub.commits.append(paths)
        self._json({"success": True, "commitOid": "1" * 40, "commitUrl": f"{self.hub.url}/{repo}/commit/{'1' * 40}"})

    # ---- ModelScope

    def _modelscope(self, method: str, path: str, body: bytes) -> bool:
        hub = self.hub
        if method == "POST" and path == "/api/v1/models":
            asked = json.loads(body)
            repo = f"{asked['Path']}/{asked['Name']}"
            assert repo not in hub.private, "the client made it a second time"
            hub.private[repo] = asked["Visibility"] == 1
            self._data({"Path": asked["Path"], "Name": asked["Name"], "Visibility": asked["Visibility"]})
        elif match := re.fullmatch(r"/(?:api|openapi)/v1/models/([^/]+)/([^/]+)", path):
            if (repo := f"{match[1]}/{match[2]}") not in hub.private:
                return False
            shown = 1 if hub.private[repo] else 5
            word = "private" if hub.private[repo] else "public"
            named = {"owner": match[1], "name": match[2], "id": repo, "visibility": word}
            self._data({"Path": match[1], "Name": match[2], "Visibility": shown} | named)
        elif match := re.fullmatch(r"/api/v1/repos/models/([^/]+/[^/]+)/info/lfs/objects/batch", path):
            self._data({"objects": self._wanted(body)})
        elif match := re.fullmatch(r"/api/v1/repos/models/([^/]+/[^/]+)/commit/master", path):
            paths = []
            for each in json.loads(body)["actions"]:
                inline = each["type"] == "normal"
                content = base64.b64decode(each["content"]) if inline else hub.blobs[each["sha256"]]
                hub.store(match[1], each["path"], content)
                paths.append(each["path"])
            hub.commits.append(paths)
            self._data({"oid": "1" * 40})
        elif path == "/api/v1/models/repo/files":
            self._data({"Files": []})
        else:
            return False
        return True

    def _data(self, data: dict[str, Any]) -> None:
        self._json({"Code": 200, "Success": True, "Data": data, "data": data, "success": True})

    def _json(self, told: Any, status: int = 200, more: dict[str, str] | None = None) -> None:
        raw = json.dumps(told).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(raw)),
            **(more or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)
