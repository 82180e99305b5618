"""Attacks through what a model, a web page or a file's name can say to the tools. Real processes, a real server."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from glmstudio.paths import paths
from glmstudio.tools.call import call, unfenced
from glmstudio.tools.permissions import set_folder
from glmstudio.tools.shipped.web import _fetch, _is_public
from glmstudio.tools.tool_error import ToolError
from glmstudio.tools.toolbox import toolbox

fenced = pytest.mark.skipif(bool(unfenced()), reason="this machine has no fence")

# Names of tools


@pytest.mark.parametrize(
    "name",
    ["__import__", "eval", "os.system", "_value", "../everyday", "calculator\n", " calculator", "CALCULATOR", "calculator()",
     "calculator; import os", "", "\x00", "get_time\u200b", "ｃalculator", "call", "__class__", "ToolError", "a" * 100_000],
)  # fmt: skip
def test_names_that_are_no_tools(home: Path, name: str) -> None:
    assert name not in toolbox().tools


# Arguments

OUTSIDE = "Error: Only files inside the user's folder can be read."
NOT_PUBLIC = "Error: Only public web pages can be fetched, not this machine or its network."
NOT_WEB = "Error: Only addresses that begin with http:// or https:// can be fetched."
NO_PAGE = "Error: This is not an address of a web page."
STOPPED = "Error: interpreter was stopped: "
ONLY_SUMS = "Error: Only numbers, + - * / // % ** and parentheses can be worked out."

ATTACKS: list[tuple[str, dict[str, Any], str]] = [
    ("calculator", {"expression": "__import__('os').system('id')"}, ONLY_SUMS),
    ("calculator", {"expression": "().__class__.__bases__[0].__subclasses__()"}, ONLY_SUMS),
    ("calculator", {"expression": "open('/etc/passwd').read()"}, ONLY_SUMS),
    ("calculator", {"expression": "[1 for _ in range(10**9)]"}, ONLY_SUMS),
    ("calculator", {"expression": "'a' * 10**9"}, ONLY_SUMS),
    ("calculator", {"expression": "(lambda: 1)()"}, ONLY_SUMS),
    ("calculator", {"expression": "9**9**9**9"}, "Error: The result is too large."),
    ("calculator", {"expression": "2**999**1"}, "Error: The result is too large."),
    ("calculator", {"expression": "1<<99999"}, ONLY_SUMS),
    ("calculator", {"expression": "(" * 99 + "1" + ")" * 99}, "1"),
    ("calculator", {"expression": "-" * 199 + "1"}, "-1"),
    ("calculator", {"expression": "1\x00"}, "Error: This is not an arithmetic expression."),
    ("calculator", {"expression": "1j*1j"}, ONLY_SUMS),
    ("calculator", {"expression": "True+1"}, ONLY_SUMS),
    ("calculator", {"expression": "1e400"}, "Error: The result is too large."),
    ("calculator", {"__class__": "x", "expression": "1"}, "Error: calculator has no argument __class__."),
    ("calculator", {"self": 1, "expression": "1"}, "Error: calculator has no argument self."),
    ("calculator", {"expression": {"$ne": ""}}, "Error: The argument expression of calculator must be of type string."),
    ("get_time", {"city": "../../etc/passwd"}, "Error: The time zone of ../../etc/passwd is not known."),
    ("get_date", {"city": "/etc/passwd"}, "Error: The time zone of /etc/passwd is not known."),
    ("get_date", {"city": "\x00"}, "Error: The time zone of \x00 is not known."),
    ("roll_dice", {"count": 10**30, "sides": 6}, "Error: Roll 1 to 20 dice with 2 to 1000 sides."),
    ("roll_dice", {"count": -1, "sides": 6}, "Error: Roll 1 to 20 dice with 2 to 1000 sides."),
    ("set_timer", {"value": 10**300}, "Error: Set 1 to 1440 minutes."),
    ("convert_unit", {"value": 1e308, "from_unit": "km", "to_unit": "cm"}, "Error: The number is too large."),
    ("convert_unit", {"value": 1, "from_unit": "__class__", "to_unit": "km"},
     "Error: The units are km, mile, m, foot, cm, inch, kg, pound, celsius, fahrenheit."),
    ("list_files", {"path": ".."}, OUTSIDE),
    ("list_files", {"path": "/"}, OUTSIDE),
    ("list_files", {"path": "up"}, OUTSIDE),
    ("list_files", {"path": "sub/../../.."}, OUTSIDE),
    ("list_files", {"path": "a.txt"}, "Error: a.txt is not a folder."),
    ("list_files", {}, "?[31mred\nA?B?.txt\na.txt\nbinary\nlink.txt\npipe\nsub/\nup/\n" + "x" * 200),
    ("read_file", {"path": "a.txt"}, "inside"),
    ("read_file", {"path": "../secret.txt"}, OUTSIDE),
    ("read_file", {"path": "link.txt"}, OUTSIDE),
    ("read_file", {"path": "up/secret.txt"}, OUTSIDE),
    ("read_file", {"path": "/etc/passwd"}, OUTSIDE),
    ("read_file", {"path": "/proc/self/environ"}, OUTSIDE),
    ("read_file", {"path": "/dev/zero"}, OUTSIDE),
    ("read_file", {"path": "sub"}, "Error: sub is not a file."),
    ("read_file", {"path": ""}, "Error:  is not a file."),
    ("read_file", {"path": "pipe"}, "Error: pipe is not a file."),
    ("read_file", {"path": "binary"}, "Error: binary is not a text file."),
    ("read_file", {"path": "a.txt\x00.png"}, "Error: This is not a path."),
    ("read_file", {"path": "~/.ssh/id_rsa"}, "Error: There is no file ~/.ssh/id_rsa."),
    ("read_file", {"path": "$HOME"}, "Error: There is no file $HOME."),
    ("read_file", {"path": "file:///etc/passwd"}, "Error: There is no file file:///etc/passwd."),
    ("read_file", {"path": "..\\secret.txt"}, "Error: There is no file ..\\secret.txt."),
    *[("fetch_page", {"url": f"http://{host}/"}, NOT_PUBLIC) for host in (
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "0", "0.0.0.0", "localhost", "LOCALHOST",
        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[fe80::1]",
        "[fec0::1]", "[fd00::1]", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255",
        "①②⑦.0.0.1", "8.8.8.8:22", "8.8.8.8:7860",
    )],
    ("fetch_page", {"url": "file:///etc/passwd"}, NOT_WEB),
    ("fetch_page", {"url": "ftp://127.0.0.1/"}, NOT_WEB),
    ("fetch_page", {"url": "gopher://127.0.0.1/"}, NOT_WEB),
    ("fetch_page", {"url": "data:text/html,x"}, NOT_WEB),
    ("fetch_page", {"url": "javascript:alert(1)"}, NOT_WEB),
    ("fetch_page", {"url": "//127.0.0.1/"}, NOT_WEB),
    ("fetch_page", {"url": "http://"}, NOT_WEB),
    ("fetch_page", {"url": "http://8.8.8.8@127.0.0.1/"}, NOT_WEB),
    ("fetch_page", {"url": "http://a:b@8.8.8.8/"}, NOT_WEB),
    ("fetch_page", {"url": "http://127.0.0.1\\@8.8.8.8/"}, NOT_WEB),
    ("fetch_page", {"url": "http://8.8.8.8:99999/"}, NO_PAGE),
    ("fetch_page", {"url": "http://8.8.8.8:x/"}, NO_PAGE),
    ("fetch_page", {"url": "http://[::1/"}, NO_PAGE),
    ("fetch_page", {"url": "http://127.0.0.1:80\r\nHost: evil/"}, NO_PAGE),
    ("interpreter", {"code": "import os; os.fork()"}, STOPPED + "it may not start or end other processes."),
    ("interpreter", {"code": "import os; os.system('id')"}, "32512"),
    ("interpreter", {"code": "import subprocess as s; s.getoutput('id')"}, STOPPED + "it may not start or end other processes."),
    ("interpreter", {"code": "open('/etc/passwd').read()"}, STOPPED + "it may not use this file."),
    ("interpreter", {"code": "open('/proc/self/environ').read()"}, STOPPED + "it may not use this file."),
    ("interpreter", {"code": "import urllib.request as u; u.urlopen('http://127.0.0.1')"}, STOPPED + "it may not use the network."),
    ("interpreter", {"code": "import socket; socket.getaddrinfo('secret.example.com', 80)"}, STOPPED + "it may not use the network."),
    ("interpreter", {"code": "import glmstudio; open(glmstudio.__path__[0] + '/x.py', 'w')"}, STOPPED + "it may not use this file."),
    ("interpreter", {"code": "'x' * (1 << 40)"}, STOPPED + "it took too much memory."),
    ("interpreter", {"code": "import os; os._exit(0)"}, STOPPED + "its process broke."),
    ("interpreter", {"code": "raise SystemExit"}, "Error: SystemExit:  (line 1)"),
    ("interpreter", {"code": "\x00"}, "Error: SyntaxError: source code string cannot contain null bytes"),
    ("interpreter", {"code": "import sys; sys.settrace(None); sys.stdout.close(); print(1)"},
     "Error: interpreter could not answer: I/O operation on closed file."),
]  # fmt: skip


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home with a granted folder whose files have names and natures that mean harm."""
    base = tmp_path_factory.mktemp("attacked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMSTUDIO_HOME", str(base / "home"))
        papers = base / "papers"
        (papers / "sub").mkdir(parents=True)
        (base / "secret.txt").write_text("outside")
        (papers / "a.txt").write_text("inside")
        (papers / "A\nB\u202e.txt").write_text("")
        (papers / "\x1b[31mred").write_text("")
        (papers / ("x" * 200)).write_text("")
        (papers / "binary").write_bytes(b"\x00\x01")
        (papers / "link.txt").symlink_to(base / "secret.txt")
        (papers / "up").symlink_to(base)
        os.mkfifo(papers / "pipe")
        set_folder(str(papers))
        yield


@fenced
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack[0]} {str(attack[1])[:40]!a}")
def test_attacks(attacked: None, attack: tuple[str, dict[str, Any], str]) -> None:
    name, arguments, said = attack
    outcome = call(toolbox().tools[name], arguments)
    assert outcome.content == said


@fenced
def test_without_a_folder_no_file_is_read(home: Path) -> None:
    for name, path in (("read_file", "/etc/passwd"), ("list_files", "/")):
        outcome = call(toolbox().tools[name], {"path": path})
        assert outcome.content == "Error: The user has not chosen a folder that may be read."


@fenced
def test_an_own_tool_cannot_pose_as_a_shipped_one(home: Path) -> None:
    paths().tools.mkdir(parents=True)
    (paths().tools / "studio.py").write_text(
        'PERMISSION = "always"\ndef helper() -> str:\n    """Helps."""\n    return "x"\n'
    )
    box = toolbox()
    assert (box.tools["helper"].source, box.tools["helper"].permission_default) == ("studio.py", "ask")


# Addresses


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "0.0.0.0", "10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "198.18.0.1", "192.0.2.1",
     "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:8.8.8.8", "::ffff:10.0.0.1", "::8.8.8.8", "64:ff9b::a00:1",
     "64:ff9b:1::1", "2002:a00:1::", "2002:7f00:1::", "2001::1", "2001:db8::1", "fc00::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not _is_public(address, 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450::1"])
def test_addresses_that_are_public(address: str) -> None:
    assert [_is_public(address, port) for port in (80, 443, 22, 25, 6379, 7860)] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


# Pages


class Pages(BaseHTTPRequestHandler):
    """What each path answers; `redirect?` leads to what follows."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        path, _, query = self.path.partition("?")
        kind, body, status = "text/html", b"", 200
        if path == "/page":
            body = b"<head><title>no</title><body><script>steal()</script><h1>Hello</h1><p>a <b>b</b>\n c</p><style>x</style>&lt;i&gt;"
        elif path == "/redirect":
            self.send_response(302)
            self.send_header("location", query)
            self.end_headers()
            return
        elif path == "/big":
            kind, body = "text/plain", b"x" * 3_000_000
        elif path == "/charset":
            kind, body = f"text/plain; charset={query}", "é".encode()
        elif path == "/image":
            kind = "image/png"
        elif path == "/open":
            body = b"<script>" * 1000 + b"<p>never closed"
        else:
            status = 404
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def pages() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetched(pages: ThreadingHTTPServer, path: str, **also: Any) -> str:
    port = pages.server_address[1]
    asked: list[tuple[str, int]] = also.get("asked", [])

    def allowed(address: str, to: int) -> bool:
        asked.append((address, to))
        return to == port and address == "127.0.0.1"

    return _fetch(f"http://127.0.0.1:{port}{path}", allowed)


def test_a_page_is_its_text(pages: ThreadingHTTPServer) -> None:
    assert fetched(pages, "/page") == "Hello\na b\nc<i>"
    assert fetched(pages, "/redirect?/redirect?/page").endswith("<i>")
    assert len(fetched(pages, "/big")) == 1_000_000
    assert fetched(pages, "/charset?utf-8") == "é"
    assert fetched(pages, "/open") == ""


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/redirect?http://127.0.0.1:1/", NOT_PUBLIC[7:]),
        ("/redirect?http://169.254.169.254/latest/meta-data", NOT_PUBLIC[7:]),
        ("/redirect?http://[::1]/", NOT_PUBLIC[7:]),
        ("/redirect?//10.0.0.1/", NOT_PUBLIC[7:]),
        ("/redirect?file:///etc/passwd", NOT_WEB[7:]),
        ("/redirect?http://x@127.0.0.1/", NOT_WEB[7:]),
        ("/redirect?http://[", "The page leads to something that is not an address."),
        ("/redirect?" + "/redirect?" * 9 + "/page", "The page leads from one address to the next without an end."),
        ("/none", "The page answered with status 404."),
        ("/image", "The page is no text but image/png."),
        ("/charset?hex", "The page could not be fetched: LookupError."),
        ("/charset?undefined", "The page could not be fetched: UnicodeError."),
    ],
)
def test_pages_that_lead_elsewhere(pages: ThreadingHTTPServer, path: str, said: str) -> None:
    with pytest.raises(ToolError) as caught:
        fetched(pages, path)
    assert str(caught.value) == said


def test_every_step_is_asked_for_before_it_is_taken(pages: ThreadingHTTPServer) -> None:
    port = pages.server_address[1]
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.2)
        asked: list[tuple[str, int]] = []
        with pytest.raises(ToolError):
            fetched(pages, f"/redirect?http://127.0.0.1:{other.getsockname()[1]}/", asked=asked)
        assert asked == [("127.0.0.1", port), ("127.0.0.1", other.getsockname()[1])]
        with pytest.raises(TimeoutError):
            other.accept()


def test_a_path_cannot_smuggle_a_second_request(pages: ThreadingHTTPServer) -> None:
    pages.asked.clear()  # type: ignore[attr-defined]
    for path in ("/page?\r\nX: y", "/page HTTP/1.1\r\n\r\nGET /none", "/page?\x00", "/page?\x0b"):
        try:
            fetched(pages, path)
        except ToolError as error:
            assert str(error) == "The page could not be fetched: InvalidURL."  # noqa: PT017
    assert "/none" not in pages.asked  # type: ignore[attr-defined]
