"""The studio as a process: who may talk to it, that there is one for a home, and what it never loads."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from glmstudio.chat.model_server import ModelServer
from glmstudio.system.process import Identity, alive, free_port
from tests.e2e.studio import Studio, command, environment, studio


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("home")) as started:
        yield started


def ask(running: Studio, method: str, path: str, **headers: str) -> httpx.Response:
    """As the owner's browser asks."""
    with httpx.Client(trust_env=False, base_url=running.place, timeout=10) as client:
        given = {"Cookie": running.cookie} | headers
        return client.request(method, path, headers=given, json={} if method == "POST" else None)


def test_health_says_whose_studio_it_is(running: Studio) -> None:
    answer = ask(running, "GET", "/health").json()

    assert (answer["studio"], answer["home"], answer["pid"]) == ("glmstudio", str(running.home), running.process.pid)


def test_a_page_of_before_is_told_to_refresh(running: Studio) -> None:
    answers = [
        ask(running, "GET", f"/changed?visit={mark}&step={step}").text for mark in ("", "x") for step in ("", "?")
    ]

    assert answers == ["0", "0", "1", "1"]


@pytest.mark.parametrize(
    "path", ["/", "/config", "/health", "/changed?visit=x", "/gradio_api/info", "/gradio_api/queue/data?session_hash=x"]
)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "192.168.1.5:{port}", "127.0.0.1:0", "127.0.0.1.evil.example:{port}"],
)
def test_a_foreign_host_is_refused_and_told_the_way_in(running: Studio, path: str, host: str) -> None:
    answer = ask(running, "GET", path, Host=host.format(port=running.port))

    assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert answer.text.count(f"<pre>ssh -L {running.port}:127.0.0.1:{running.port} user@server</pre>") == 2
    assert "GLM Studio does not answer at this address" in answer.text
    assert "GLM Studio 不在这个地址上提供服务" in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


def test_the_refusal_holds_nothing_of_the_request(running: Studio) -> None:
    host = "evil.example'><script>alert(1)</script>"
    answers = [
        ask(running, "GET", "/", Host=host),
        ask(running, "POST", "/%3Cb%3E?q=evil", Host="127.0.0.1", Origin="http://evil", **{"Accept-Language": "evil"}),
    ]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert len({answer.text for answer in answers}) == 1
    assert "evil" not in answers[0].text


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/upload", "/health"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1:1",
        "http://localhost",
        "http://localhost:{port}",
    ],
)
def test_a_foreign_origin_is_refused(running: Studio, path: str, origin: str) -> None:
    assert ask(running, "POST", path, Origin=origin.format(port=running.port)).status_code == 403


def test_another_website_cannot_embed_or_read_it(running: Studio) -> None:
    assert (
        ask(running, "GET", "/config", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status_code
        == 403
    )
    assert ask(running, "GET", "/", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 200
    headers = ask(running, "GET", "/").headers
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
def test_its_own_names_are_served(running: Studio, name: str) -> None:
    for host in (f"{name}:{running.port}", f"{name}:9000", name):
        assert ask(running, "GET", "/", Host=host, Origin=f"http://{host}").status_code == 200


def test_files_of_the_machine_are_not_served(running: Studio) -> None:
    assert ask(running, "GET", "/gradio_api/file=/etc/passwd").status_code in {403, 404}


def test_it_listens_on_this_machine_only(running: Studio) -> None:
    table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    listening = [line.split()[1] for line in table.splitlines() if line.split()[3] == "0A"]

    assert [where for where in listening if where.endswith(f":{running.port:04X}")] == [f"0100007F:{running.port:04X}"]


def test_no_torch_is_ever_mapped(running: Studio) -> None:
    mapped = Path(f"/proc/{running.process.pid}/maps").read_text()

    assert "torch" not in mapped


def test_a_second_start_finds_the_first(running: Studio) -> None:
    second = subprocess.run(command(), env=environment(running.home), capture_output=True, text=True, timeout=60)

    assert second.returncode == 0, second.stderr
    assert second.stdout == (
        f"GLM Studio is already running. Open this address, and keep it to yourself:\n{running.url}\n"
    )


@pytest.mark.parametrize(
    ("lang", "said"),
    [
        (
            "C.UTF-8",
            "GLM Studio is already running. Open this address, and keep it to yourself:\n{url}\n"
            "Is your browser on another machine? Run this there,",
        ),
        (
            "zh_CN.UTF-8",
            "GLM Studio 已经在运行。请打开下面的地址，不要告诉别人：\n{url}\n"
            "浏览器在另一台机器上？请在那台机器上运行下面的命令，",
        ),
    ],
)
def test_over_ssh_the_start_tells_the_way_in_and_opens_nothing(
    running: Studio, tmp_path: Path, lang: str, said: str
) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\ntouch {opened}\n")
    browser.chmod(0o755)
    far = {"SSH_CONNECTION": "198.51.100.7 50022 203.0.113.5 2222", "LOGNAME": "ann", "LC_ALL": lang}
    shown = {"DISPLAY": ":99", "BROWSER": str(browser)}
    line = [each for each in command() if each != "--no-browser"]

    start = subprocess.run(
        line, env=environment(running.home, **shown, **far), capture_output=True, text=True, timeout=60
    )

    assert start.returncode == 0, start.stderr
    assert start.stdout.startswith(said.format(url=running.url))
    assert f"\n    ssh -L {running.port}:127.0.0.1:{running.port} -p 2222 ann@203.0.113.5\n" in start.stdout
    assert "`:127.0.0.1`" in start.stdout  # where another port may stand
    assert not opened.exists()
    subprocess.run(line, env=environment(running.home, **shown), capture_output=True, check=True, timeout=60)
    assert opened.exists()


@pytest.mark.slow
def test_a_record_of_a_dead_studio_is_not_believed(tmp_path: Path) -> None:
    record = tmp_path / "state" / "studio.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"port": free_port(), "identity": {"boot_id": "x", "pid": 1, "started": 1}}))

    with studio(tmp_path, http_proxy="http://127.0.0.1:9", ALL_PROXY="socks5://127.0.0.1:9") as started:
        assert ask(started, "GET", "/").status_code == 200


def test_a_taken_port_is_said_plainly(running: Studio, tmp_path: Path) -> None:
    second = subprocess.run(
        command("--port", str(running.port)), env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )

    assert second.returncode != 0
    assert f"Port {running.port} is used by another program." in second.stderr


@pytest.mark.slow
def test_closing_the_studio_unloads_the_model(home: Path) -> None:
    with studio(home) as running:
        ModelServer.start("demo")
        server = Identity.from_json(json.loads((home / "state" / "server.json").read_text())["identity"])
        assert alive(server)
        running.process.terminate()
        running.process.wait(20)
        assert not alive(server)
    assert not (home / "state" / "server.json").exists()
