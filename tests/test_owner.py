"""The page and the model server are their owner's alone: a real second user of the machine gets nothing out of them."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.studio import ROOT, Studio, get, login, studio
from tests.users import OTHER, OWNER, PACKAGES, PYTHON, ask_as, become, other_user, place_of, python_as, run_as

pytestmark = other_user

ROUTES = [
    "", "config", "health", "theme.css", "manifest.json", "favicon.ico", "chats/x.json", "answers/x.csv", "chats/x.md", "static/img/logo.svg",
    "gradio_api/info", "gradio_api/queue/data?session_hash=x", "gradio_api/file=/etc/passwd", "gradio_api/app_id", "gradio_api/heartbeat/x",
    "assets/index.js", "svelte/x", "login", "no/such/place", "?token=", "?token=x", "//evil.example/?token=x",
]  # fmt: skip
POSTS = [
    "gradio_api/queue/join",
    "gradio_api/run/predict",
    "gradio_api/upload",
    "gradio_api/reset",
    "gradio_api/cancel",
]


@pytest.fixture(scope="module")
def running() -> Iterator[Studio]:
    """A studio of one user."""
    with place_of(OWNER) as folder, studio(folder / "home", uid=OWNER, LC_ALL="C.UTF-8") as started:
        yield started


@pytest.mark.parametrize("stolen", ["nothing", "cookie", "token", "both"])
def test_another_user_is_refused_everywhere(running: Studio, stolen: str) -> None:
    headers = ["-H", f"Cookie: {running.cookie}"] if stolen in ("cookie", "both") else []
    headers += ["-H", "X-Forwarded-For: 127.0.0.1:1", "-H", "Forwarded: for=127.0.0.1"]
    said = set()
    for path in ROUTES:
        token = f"{'&' if '?' in path else '?'}token={running.key}" if stolen in ("token", "both") else ""
        said.add(ask_as(OTHER, running.place + path + token, *headers))
    for path in POSTS:
        said.add(ask_as(OTHER, running.place + path, *headers, "-d", "{}"))
        said.add(ask_as(OTHER, running.place + path, *headers, "-F", "files=@/etc/hostname"))
    assert {status for status, _ in said} == {403}
    (page,) = {body for _, body in said}
    assert "GLM Studio does not know this browser" in page
    assert "GLM Studio 不认识这个浏览器" in page
    assert str(running.home) not in page
    assert running.key not in page


def test_the_owner_is_served_by_every_way(running: Studio) -> None:
    cookie = ["-H", f"Cookie: {running.cookie}"]
    for uid in (OWNER, 0):  # root reads everything anyway
        assert ask_as(uid, running.place, *cookie)[0] == 200
        assert ask_as(uid, running.place)[0] == 403
        assert ask_as(uid, running.url)[0] == 303
    through = f"http://[::ffff:127.0.0.1]:{running.port}/health"
    assert ask_as(OWNER, through, "-g", "-H", "Host: 127.0.0.1", *cookie)[0] == 200
    assert ask_as(OTHER, through, "-g", "-H", "Host: 127.0.0.1", *cookie)[0] == 403


FORWARD = """
import sys, time
from tests.e2e.forwarder import forwarder
with forwarder(int(sys.argv[1])) as port:
    print(port, flush=True)
    time.sleep(300)
"""


@contextlib.contextmanager
def forward(uid: int, port: int) -> Iterator[int]:
    """What `ssh -L` of this user does."""
    command = [*become(uid), PYTHON, "-c", FORWARD, str(port)]
    child = subprocess.Popen(command, cwd=ROOT, env={"PYTHONPATH": PACKAGES}, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield int(child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.parametrize(("uid", "status"), [(OWNER, 200), (OTHER, 403)])
def test_the_end_of_a_tunnel_is_its_users(running: Studio, uid: int, status: int) -> None:
    with forward(uid, running.port) as port:
        assert get(port, "/", running.cookie)[0] == status
        assert get(port, "/")[0] == 403
        if uid == OWNER:
            assert login(port, running.key) == running.cookie


SEND_AND_GO = """
import socket, struct, sys
port, cookie, reset = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "reset"
body = (b'--x\\r\\nContent-Disposition: form-data; name="files"; filename="%d"\\r\\n\\r\\nhi\\r\\n--x--\\r\\n')
for number in range(40):
    part = body % number
    asked = (f"POST /gradio_api/upload HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nCookie: {cookie}\\r\\nContent-Length: {len(part)}\\r\\n"
             "Content-Type: multipart/form-data; boundary=x\\r\\n\\r\\n").encode()
    with socket.create_connection(("127.0.0.1", port)) as there:
        there.sendall(asked + part)
        if reset:
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
print("true")
"""


@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_sends_and_is_gone_does_nothing(running: Studio, how: str) -> None:
    """A socket that was closed shows as nobody's or as root's."""
    uploads = running.home / "cache/uploads"
    before = sorted(uploads.rglob("*"))
    assert python_as(OTHER, SEND_AND_GO, str(running.port), running.cookie, how)
    time.sleep(1)
    assert sorted(uploads.rglob("*")) == before


def test_nothing_of_the_home_can_be_read(running: Studio) -> None:
    assert run_as(OTHER, "find", str(running.home), "-type", "f").stdout == ""
    assert running.home.stat().st_mode & 0o777 == 0o700
    assert (running.home / "state").stat().st_mode & 0o777 == 0o700
    assert (running.home / "state/studio.json").stat().st_mode & 0o777 == 0o600


def test_no_process_shows_the_key(running: Studio) -> None:
    assert run_as(OTHER, "cat", f"/proc/{running.process.pid}/environ").returncode != 0
    assert running.key not in run_as(OTHER, "cat", f"/proc/{running.process.pid}/cmdline").stdout


START = """
import json
from glmstudio.chat.model_server import ModelServer, wait_until_ready
ModelServer.start("demo")
print(json.dumps([wait_until_ready(120).port, ModelServer.key()]))
"""
STOP = "from glmstudio.chat.model_server import ModelServer; ModelServer.stop(); print('null')"


@pytest.mark.slow
def test_a_model_server_answers_its_owner_alone(running: Studio) -> None:
    home = {"GLMSTUDIO_HOME": str(running.home)}
    port, key = python_as(OWNER, START, **home)
    try:
        url = f"http://127.0.0.1:{port}/"
        asked = '{"model": "demo", "messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0}'
        for given in ([], ["-H", "Authorization: Bearer x"], ["-H", f"x-studio-token: {running.key}"]):
            for path in ("v1/models", "v1/models/demo", "studio/state", "no/such"):
                assert ask_as(OTHER, url + path, *given)[0] == 401
            assert ask_as(OTHER, f"{url}v1/chat/completions", "-d", asked, *given)[0] == 401
            assert ask_as(OTHER, f"{url}studio/adapters", "-d", '{"name": "x", "folder": "/"}', *given)[0] == 401
            assert ask_as(OTHER, f"{url}health", *given) == (200, '{"status": "ready"}')
        said = ask_as(OWNER, f"{url}v1/chat/completions", "-d", asked, "-H", f"Authorization: Bearer {key}")
        assert (said[0], "I am the demo model" in said[1]) == (200, True)
        assert (running.home / "state/server-token").stat().st_mode & 0o777 == 0o600
        for each in psutil.process_iter(["uids", "cmdline"]):
            if each.info["uids"] and each.info["uids"].real == OWNER:
                assert key not in " ".join(each.info["cmdline"] or ())
                assert run_as(OTHER, "cat", f"/proc/{each.pid}/environ").returncode != 0
        assert run_as(OTHER, "find", str(running.home), "-type", "f").stdout == ""
    finally:
        python_as(OWNER, STOP, **home)
    assert not (running.home / "state/server-token").exists()


@pytest.mark.slow
def test_two_users_have_a_studio_each_and_may_upload(running: Studio) -> None:
    with place_of(OTHER) as folder, studio(folder / "home", uid=OTHER) as second:
        for each, uid in ((running, OWNER), (second, OTHER)):
            options = ["-H", f"Cookie: {each.cookie}", "-F", "files=@/etc/hostname"]
            status, where = ask_as(uid, f"{each.place}gradio_api/upload", *options)
            (path,) = re.findall(r'"([^"]+)"', where)
            assert (status, Path(path).is_relative_to(each.home / "cache/uploads")) == (200, True)
            assert Path(path).read_text() == Path("/etc/hostname").read_text()
        assert second.cookie.split("=")[0] != running.cookie.split("=")[0]  # one browser may see both


@pytest.mark.slow
def test_a_restart_takes_the_old_key_away(tmp_path: Path) -> None:
    with place_of(OWNER) as folder:
        with studio(folder / "home", uid=OWNER) as first:
            old = first.cookie
        with studio(folder / "home", uid=OWNER) as second:
            assert get(second.port, "/", old)[0] == 403
            assert get(second.port, f"/?token={first.key}")[0] == 403
            assert get(second.port, "/", second.cookie)[0] == 200
            assert old.split("=")[0] == second.cookie.split("=")[0]  # it takes the place of the old one
