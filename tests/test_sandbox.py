"""Tools that mean harm, as real processes: each is stopped, named, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from glmstudio.files import write_json
from glmstudio.paths import paths
from glmstudio.system import sandbox
from glmstudio.system.process import identify
from glmstudio.tools import call as calling
from glmstudio.tools.call import Outcome, call, unfenced
from glmstudio.tools.permissions import set_folder
from glmstudio.tools.toolbox import Tool, toolbox
from glmstudio.tools.workdir import PREFIX, is_full, place
from tests.waiting import until

pytestmark = pytest.mark.skipif(bool(unfenced()), reason="this machine has no fence")

WHY = {
    "time": "it took too long",
    "memory": "it took too much memory",
    "process": "it may not start or end other processes",
    "network": "it may not use the network",
    "ports": "it may not connect to the studio itself",
    "file": "it may not use this file",
    "disk": "it wrote too much",
    "threads": "it started too many threads",
    "output": "its answer was too long",
    "forbidden": "it did something that is not allowed",
    "crashed": "its process broke",
}


@pytest.fixture(autouse=True)
def _nothing_is_left(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield
    assert os.listdir(temporary) == []
    assert [each for each in psutil.Process().children(recursive=True) if runs_a_tool(each)] == []


def runs_a_tool(process: psutil.Process) -> bool:
    try:
        return "child.py" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return False


@pytest.fixture
def tool(home: Path) -> Callable[..., Tool]:
    """A user's own tool `f` with this body."""

    def make(body: str, *, head: str = "", needs: tuple[str, ...] = ()) -> Tool:
        paths().tools.mkdir(parents=True, exist_ok=True)
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        code = f'NEEDS = {list(needs)!r}\nimport ctypes, os, sys\n{head}\ndef f() -> str:\n    """F."""\n{lines}\n'
        (paths().tools / "mine.py").write_text(code)
        box = toolbox()
        assert box.broken == ()
        return box.tools["f"]

    return make


def stopped(kind: str) -> tuple[str, bool, str]:
    return f"Error: f was stopped: {WHY[kind]}.", True, f"tools.stopped_{kind}"


def told(outcome: Outcome) -> tuple[str, bool, str]:
    assert outcome.stopped is not None, outcome
    assert outcome.stopped.what() != outcome.stopped.what("zh") != ""
    return outcome.content, outcome.failed, outcome.stopped.key


# What Python itself would do: refused and named


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("process", "while True: os.fork()"),
        ("process", "import subprocess; subprocess.run(['/bin/sh', '-c', 'id'])"),
        ("process", "import subprocess; subprocess.run('id', shell=True)"),
        ("process", "os.execv('/bin/sh', ['sh'])"),
        ("process", "os.posix_spawn('/bin/sh', ['sh'], {})"),
        ("process", "import multiprocessing as m; m.get_context('fork').Process(target=print).start()"),
        ("process", "os.kill(os.getppid(), 9)"),
        ("process", "os.kill(os.getppid(), 0)"),
        ("process", "os.kill(1, 15)"),
        ("process", "os.killpg(os.getppid(), 9)"),
        ("process", "os.kill(os.getpid(), 19)"),
        ("file", "return open('/etc/passwd').read()"),
        ("file", "return str(os.listdir('/'))"),
        ("file", "return str(os.listdir(os.environ['HOME'] + '/..'))"),
        ("file", "return open('/proc/self/environ').read()"),
        ("file", "return open(f'/proc/{os.getppid()}/environ').read()"),
        ("file", "return open(f'/proc/{os.getppid()}/mem').read()"),
        ("file", "return str(os.listdir('/proc'))"),
        ("file", "return os.readlink(f'/proc/{os.getppid()}/cwd')"),
        ("file", "return open('/dev/vda', 'rb').read(1)"),
        ("file", "return open('/dev/tty').read()"),
        ("file", f"return str(os.listdir({str(Path.home())!r}))"),
        ("file", "return open('/dev/shm/glmstudio-x', 'w').write('x')"),
        ("file", "open(__file__, 'a').write('x')"),
        ("file", "os.remove(__file__)"),
        ("file", "os.truncate(__file__, 0)"),
        ("file", "os.rename(__file__, 'mine.py')"),
        ("file", "os.chmod(__file__, 0o777)"),
        ("file", "os.chown(__file__, 0, 0)"),
        ("file", "os.utime(__file__, (0, 0))"),
        ("file", "os.setxattr(__file__, 'user.x', b'')"),
        ("file", "os.symlink('/etc/passwd', 'link')"),
        ("forbidden", "os.mkfifo('pipe')"),
        ("forbidden", "os.mknod('device', 0o020666, os.makedev(1, 3))"),
        ("forbidden", "os.memfd_create('x')"),
        ("file", "import shutil; shutil.rmtree(os.path.dirname(__file__))"),
        ("file", "from pathlib import Path; Path(__file__).with_name('new.py').write_text('x')"),
        ("network", "import socket; socket.create_connection(('127.0.0.1', 9))"),
        ("network", "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"),
        ("network", "import socket; socket.socket(socket.AF_INET6)"),
        ("network", "import socket; socket.socket(socket.AF_UNIX).connect('/run/x')"),
        ("network", "import socket; socket.socket(socket.AF_NETLINK, 3)"),
        ("forbidden", "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)"),
        ("network", "import socket; socket.getaddrinfo('example.com', 80)"),
        ("network", "import urllib.request as u; u.urlopen('http://127.0.0.1:9/')"),
        ("network", "import http.client as h; h.HTTPConnection('127.0.0.1', 9).request('GET', '/')"),
    ],
)  # fmt: skip
def test_refused_and_named(tool: Callable[..., Tool], kind: str, body: str) -> None:
    if "/dev/vda" in body and not os.path.exists("/dev/vda"):
        pytest.skip("no such device")
    made = tool(body)
    before = (paths().tools / "mine.py").read_bytes(), (paths().tools / "mine.py").stat().st_mode
    assert told(call(made, {})) == stopped(kind)
    assert before == ((paths().tools / "mine.py").read_bytes(), (paths().tools / "mine.py").stat().st_mode)
    assert os.listdir(paths().tools) == ["mine.py"]


# The same past Python, by the kernel's own numbers

RAW = "lib = ctypes.CDLL(None, use_errno=True)\ndef _raw(*a):\n    r = lib.syscall(*a)\n    return ctypes.get_errno() if r < 0 else r\n"
REFUSED = {
    "fork": "57", "vfork": "58", "clone": "56, 17, 0, 0, 0, 0", "execve": "59, b'/bin/sh', None, None",
    "execveat": "322, -100, b'/bin/sh', None, None, 0", "kill parent": "62, os.getppid(), 9", "tkill": "200, os.getppid(), 9",
    "tgkill": "234, os.getppid(), os.getppid(), 9", "sigqueue": "129, os.getppid(), 9, None", "ptrace": "101, 16, os.getppid(), 0, 0",
    "pidfd": "434, os.getppid(), 0", "read memory": "310, os.getppid(), None, 0, None, 0, 0",
    "write memory": "311, os.getppid(), None, 0, None, 0, 0", "prlimit": "302, os.getppid(), 7, b'\\0' * 16, None",
    "prlimit of itself": "302, 0, 7, b'\\0' * 16, None", "setrlimit": "160, 7, b'\\0' * 16", "affinity": "203, os.getppid(), 8, b'\\1' * 8",
    "scheduler": "144, os.getppid(), 0, b'\\0' * 4", "priority": "141, 0, os.getppid(), 19", "socket": "41, 2, 1, 0",
    "unix socket": "41, 1, 1, 0", "vsock": "41, 40, 1, 0", "packets": "41, 17, 3, 0", "connect": "42, 0, None, 0", "bind": "49, 0, None, 0",
    "datagram pair": "53, 1, 2, b'\\0' * 8", "packet pair": "53, 1, 5, b'\\0' * 8", "io_uring": "425, 1, b'\\0' * 120",
    "memfd": "319, b'x', 0", "mount": "165, None, None, None, 0, None", "open_tree": "428, -100, b'/', 0", "unshare": "272, 0x10000000",
    "setns": "308, 0, 0", "chroot": "161, b'/'", "bpf": "321, 0, None, 0", "keys": "250, 0, 0", "perf": "298, None, 0, 0, 0, 0",
    "userfaultfd": "323, 0", "handles": "304, 0, None, 0", "chmod": "90, __file__.encode(), 0o777", "fchmodat2": "452, -100, __file__.encode(), 0o777, 0",
    "utimensat": "280, -100, __file__.encode(), None, 0", "inotify": "294, 0", "shmget": "29, 1, 1, 0o1666", "shmat": "30, 0, None, 0",
    "msgget": "68, 1, 0o1666", "mq_unlink": "241, b'x'", "personality": "135, 0", "no end with the parent": "157, 1, 0, 0, 0, 0",
    "TIOCSTI": "16, 0, 0x5412, b'x'", "TIOCLINUX": "16, 0, 0x541C, b'x'", "owner of signals": "72, 1, 8, os.getppid()",
    "which signal": "72, 1, 10, 9", "owner by ioctl": "16, 1, 0x8901, b'\\0' * 4", "x32 getpid": "0x40000000 + 39", "x32 fork": "0x40000000 + 57",
}  # fmt: skip


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_system_calls_by_number(tool: Callable[..., Tool]) -> None:
    body = "\n".join(f"said[{name!r}] = _raw({arguments})" for name, arguments in REFUSED.items())
    outcome = call(tool(f"import json\nsaid = {{}}\n{body}\nreturn json.dumps(said)", head=RAW), {})
    import json

    assert json.loads(outcome.content) == dict.fromkeys(REFUSED, 1)  # EPERM


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86 only")
def test_the_old_door_of_32_bits_ends_the_process(tool: Callable[..., Tool]) -> None:
    body = (  # mov eax, 20 (getpid); int 0x80; ret
        "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\n"
        "return str(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))())"
    )
    assert told(call(tool(body), {})) == stopped("forbidden")


def test_abstract_sockets_and_datagrams_lead_nowhere(tool: Callable[..., Tool], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(tmp_path / "s"))
        there.setblocking(False)
        body = (
            "import socket\na, b = socket.socketpair()\n"
            f"try:\n    a.sendto(b'x', {str(tmp_path / 's')!r})\nexcept OSError as e:\n    return type(e).__name__\nreturn 'sent'"
        )
        assert call(tool(body), {}).content != "sent"
        with pytest.raises(BlockingIOError):
            there.recv(10)


# Too much


def test_an_endless_loop(tool: Callable[..., Tool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "_PROCESSOR_SECONDS", 1)
    body = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    outcome = call(tool(body), {})
    assert told(outcome) == stopped("time")


@pytest.mark.parametrize(
    "body",
    [
        "import time; time.sleep(1000)",
        "os.closerange(0, 60)\nimport time; time.sleep(1000)",
        "import signal\nfor s in range(1, 64):\n    try: signal.signal(s, signal.SIG_IGN)\n    except Exception: pass\nsignal.pause()",
        "while True: print('x' * 1000)",
        "while True: os.write(1, b'x' * 1000)",
        "import threading\nthreading.Event().wait()",
    ],
)
def test_sleeping_and_printing_for_ever(tool: Callable[..., Tool], body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "_SECONDS", 0.7)
    outcome = call(tool(body), {})
    assert told(outcome) == stopped("time")


@pytest.mark.parametrize("body", ["import time; time.sleep(1000)", "os.closerange(0, 60)\nwhile True: pass"])
def test_the_user_ends_it(tool: Callable[..., Tool], body: str) -> None:
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    outcome = call(tool(body), {}, cancel=cancel)
    assert (outcome.content, outcome.failed, outcome.stopped) == ("Error: The user stopped this call.", True, None)


@pytest.mark.parametrize("body", ["x = 'x' * (1 << 40)", "x = []\nwhile True: x.append(bytearray(1 << 20))"])
def test_a_memory_bomb(tool: Callable[..., Tool], body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "_MEMORY", 200 << 20)
    assert told(call(tool(body), {})) == stopped("memory")


@pytest.mark.parametrize(
    "body",
    [
        "for i in range(99):\n    open(f'{i}', 'wb').write(bytes(15 << 20))\nimport time; time.sleep(9)",
        "for i in range(1200): open(f'{i}', 'w').close()",
        "for i in range(1200): os.mkdir(f'{i}')",
    ],
)
def test_a_full_folder(tool: Callable[..., Tool], body: str) -> None:
    assert told(call(tool(body), {})) == stopped("disk")


# Past Python, without a stack for each: clone (a thread that shares all), and in it pause, for ever.
STORM = """
import mmap
code = bytes.fromhex("b838000000bf000f010031f631d24d31d24d31c00f0585c07fe67402ebfeb8220000000f05ebf7")
memory = mmap.mmap(-1, 4096, prot=7)
memory.write(code)
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
"""


@pytest.mark.parametrize(
    "body",
    [
        "import threading, time\nthreading.stack_size(1 << 16)\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()",
        pytest.param(STORM, marks=pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64's own code")),
    ],
)
def test_a_storm_of_threads(tool: Callable[..., Tool], body: str) -> None:
    assert told(call(tool(body), {})) == stopped("threads")


def test_as_many_threads_as_programs_use(tool: Callable[..., Tool]) -> None:
    body = """
import numpy, threading, time
from concurrent.futures import ThreadPoolExecutor
meet = threading.Barrier(32)
with ThreadPoolExecutor(32) as pool:
    sums = list(pool.map(lambda n: time.sleep(meet.wait() * 0 + 0.1) or int(numpy.ones((n, n)) @ numpy.ones(n) @ numpy.ones(n)), range(32)))
return str(sums == [n * n for n in range(32)])
"""
    assert call(tool(body), {}).content == "True"


def test_one_file_has_its_bound(tool: Callable[..., Tool]) -> None:
    outcome = call(tool("open('x', 'wb').write(bytes(17 << 20))"), {})
    assert outcome.content == "Error: f could not answer: [Errno 27] File too large."


def test_a_giant_answer_and_a_long_one(tool: Callable[..., Tool]) -> None:
    assert told(call(tool("return 'x' * 5_000_000"), {})) == stopped("output")
    assert call(tool("return 'x' * 5000"), {}).content == "x" * 4000 + " … [cut: 5000 characters in all]"


# Answers that are none


@pytest.mark.parametrize(
    ("body", "content"),
    [
        ("return {'a': [1, None]}", '{"a": [1, null]}'),
        ("return None", "null"),
        ("return object.__class__", '"<class \'type\'>"'),
        ("return '\\ud800'", "?"),
        ("x = []; x.append(x); return x", "Error: f could not answer: Circular reference detected."),
        ("raise SystemExit(0)", "Error: The tool ended its process."),
        ("raise KeyboardInterrupt", "Error: f could not answer: ."),
        ("return 1 / 0", "Error: f could not answer: division by zero."),
        ("f()", "Error: f could not answer: maximum recursion depth exceeded."),
        ("import no_such_module", "Error: f could not answer: No module named 'no_such_module'."),
        ("os._exit(0)", "Error: f was stopped: its process broke."),
        ("ctypes.string_at(0)", "Error: f was stopped: its process broke."),
        ("os.abort()", "Error: f was stopped: its process broke."),
        ("for n in range(20):\n    try: os.write(n, b'garbage')\n    except OSError: pass", "Error: f was stopped: its process broke."),
        ("for n in range(20):\n    try: os.write(n, b'[' * 99999)\n    except OSError: pass\nos._exit(0)", "Error: f was stopped: its process broke."),
        ("for n in range(20):\n    try: os.write(n, b'{\"stopped\": [\"time\"], \"content\": {\"a\": 1}}')\n    except OSError: pass\nos._exit(0)", "{'a': 1}"),
        ("class E(Exception):\n    def __str__(self): raise self\nraise E", "Error: f was stopped: its process broke."),
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\nreturn 'done'", "done"),
        ("import atexit, time\natexit.register(time.sleep, 99)\nreturn 'done'", "done"),
    ],
)  # fmt: skip
def test_answers(tool: Callable[..., Tool], body: str, content: str) -> None:
    outcome = call(tool(body), {})
    assert outcome.content == content


def test_arguments_that_json_cannot_carry_are_an_answer(home: Path) -> None:
    made = Tool("f", "F.", {"type": "object", "properties": {"x": {}}}, "mine.py", "ask", Path("/none"))
    loop: list[Any] = []
    loop.append(loop)
    for value in (b"x", {1, 2}, 1j, {(1, 2): 3}, loop, 16**9999):
        outcome = call(made, {"x": value})
        assert (outcome.content, outcome.failed) == ("Error: The arguments of f must be plain values.", True)


def test_a_file_that_fails_when_it_is_loaded(tool: Callable[..., Tool]) -> None:
    assert call(tool("return 1", head="raise ValueError('no')"), {}).content == "Error: f could not answer: no."
    assert told(call(tool("return 1", head="os.fork()"), {})) == stopped("process")
    made = tool("return 1")
    (paths().tools / "mine.py").unlink()
    assert call(made, {}).failed


# What stays away, what is granted


def test_nothing_of_the_studios_environment(tool: Callable[..., Tool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    monkeypatch.setenv("LD_PRELOAD_X", "secret-token")
    body = "return repr(dict(os.environ)) + repr(sys.argv) + os.getcwd()"
    content = call(tool(body), {}).content
    assert "secret-token" not in content
    assert str(paths().home) not in content
    assert PREFIX in content


def test_no_file_is_inherited(tool: Callable[..., Tool], tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w+") as secret:
        os.set_inheritable(secret.fileno(), True)
        body = "n = 0\nfor i in range(64):\n    try: os.fstat(i); n += 1\n    except OSError: pass\nreturn str(n)"
        assert int(call(tool(body), {}).content) <= 4  # nowhere, nowhere, the answer


def test_it_may_write_where_it_is_and_import_what_is_installed(tool: Callable[..., Tool]) -> None:
    assert (
        call(
            tool(
                "import tempfile\nwith tempfile.TemporaryDirectory() as d:\n    open(d + '/x', 'w').write('hello')\n"
                "    os.rename(d + '/x', d + '/y')\n    said = open(d + '/y').read()\n"
                "return f'{said} {numpy.arange(4).sum()} {psutil.__name__} {httpx.URL(\"http://a/b\").path}'",
                head="import numpy, psutil, httpx, sqlite3, ssl, zoneinfo, concurrent.futures",
            ),
            {},
        ).content
        == "hello 6 psutil /b"
    )


def test_asyncio_and_threads_work(tool: Callable[..., Tool]) -> None:
    body = (
        "import asyncio\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "async def g():\n    return await asyncio.to_thread(sum, [1, 2])\n"
        "with ThreadPoolExecutor(4) as pool:\n    return f'{asyncio.run(g())} {sum(pool.map(abs, [-1, -2]))}'"
    )
    assert call(tool(body), {}).content == "3 3"


@pytest.fixture
def granted(home: Path, tmp_path: Path) -> Path:
    chosen = tmp_path / "papers"
    chosen.mkdir()
    (chosen / "a.txt").write_text("inside")
    (tmp_path / "secret.txt").write_text("outside")
    (chosen / "link.txt").symlink_to(tmp_path / "secret.txt")
    (chosen / "up").symlink_to(tmp_path)
    os.mkfifo(chosen / "pipe")
    set_folder(str(chosen))
    return chosen


def test_a_granted_folder_may_be_read_and_no_more(tool: Callable[..., Tool], granted: Path) -> None:
    where = "d = os.environ['TOOL_FOLDER']\n"
    assert call(tool(where + "return open(d + '/a.txt').read()", needs=("folder",)), {}).content == "inside"
    for body in (
        "open(d + '/link.txt')", "open(d + '/up/secret.txt')", "open(d + '/../secret.txt')", "os.listdir(d + '/up')",
        "open(d + '/a.txt', 'a')", "os.remove(d + '/a.txt')", "os.chmod(d + '/a.txt', 0)", "os.link(d + '/a.txt', 'a')",
        "os.rename(d + '/a.txt', 'a')", "open(d + '/new', 'w')", "os.mkdir(d + '/new')",
        "os.fchmod(os.open(d + '/a.txt', 0), 0)", "os.symlink('/', d + '/root')",
    ):  # fmt: skip
        outcome = call(tool(where + body, needs=("folder",)), {})
        assert "outside" not in outcome.content
        # A hard link from one folder into another is refused as a link to another file system.
        assert outcome.stopped is not None or "Errno 18" in outcome.content, (body, outcome)
    assert sorted(os.listdir(granted)) == ["a.txt", "link.txt", "pipe", "up"]
    assert (granted / "a.txt").read_text() == "inside"
    content = call(tool("return open(os.path.dirname(__file__) + '/../../papers/a.txt').read()"), {}).content
    assert content == "Error: f was stopped: it may not use this file."
    assert call(tool("return str(os.environ.get('TOOL_FOLDER'))"), {}).content == "None"


def test_the_network_when_granted_reaches_no_files_and_no_local_sockets(
    tool: Callable[..., Tool], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "s"))
        local.listen()
        connect = f"import socket\nsocket.create_connection({server.getsockname()!r}, 2).close()\nreturn 'connected'"
        assert call(tool(connect, needs=("network",)), {}).content == "connected"
        assert told(call(tool(connect), {})) == stopped("network")
        for kind, body in (
            ("network", f"import socket; socket.socket(socket.AF_UNIX).connect({str(tmp_path / 's')!r})"),
            ("forbidden", "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)"),
            ("network", "import socket; socket.create_server(('127.0.0.1', 0))"),
            ("network", "import socket; socket.socket(socket.AF_VSOCK)"),
            ("file", "open('/etc/passwd')"),
            ("file", "os.listdir('/root')"),
            ("process", "os.fork()"),
        ):
            assert told(call(tool(body, needs=("network",)), {})) == stopped(kind), body


WAYS = {
    "tcp": "socket.create_connection(('127.0.0.1', {port}), 9)",
    "through IPv6": "s = socket.socket(socket.AF_INET6); s.setsockopt(41, 26, 0); s.connect(('::ffff:127.0.0.1', {port}))",
    "late": "s = socket.socket(); s.setsockopt(6, 30, 1); s.connect(('127.0.0.1', {port})); s.send(b'x')",
    "fast open": "socket.socket().sendto(b'x', 0x20000000, ('127.0.0.1', {port}))",
    "fast open in a message": "socket.socket().sendmsg([b'x'], [], 0x20000000, ('127.0.0.1', {port}))",
    "several paths": "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(('127.0.0.1', {port}))",
    "streams": "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).connect(('127.0.0.1', {port}))",
}


@pytest.mark.skipif(sandbox.missing() != "" or sandbox._abi() < 4, reason="this kernel has no rules for ports")
@pytest.mark.parametrize("file", ["studio.json", "server.json"])
def test_the_network_does_not_reach_the_page_or_the_model_server(tool: Callable[..., Tool], file: str) -> None:
    me = identify(os.getpid())
    assert me is not None
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        server.setblocking(False)
        ports = server.getsockname()[1], other.getsockname()[1]
        write_json(paths().state / file, {"port": ports[0], "token": "x", "model": "demo", "identity": me.to_json()})
        for name, line in WAYS.items():
            said = told(call(tool(f"import socket\n{line.format(port=ports[0])}", needs=("network",)), {}))
            assert said == stopped("ports" if name in ("tcp", "through IPv6", "late") else "network"), name
        with pytest.raises(BlockingIOError):
            server.accept()
        made = tool(f"import socket\n{WAYS['tcp'].format(port=ports[1])}\nreturn 'connected'", needs=("network",))
        assert call(made, {}).content == "connected"
        gone = me.to_json() | {"started": 1}
        write_json(paths().state / file, {"port": ports[0], "token": "x", "model": "demo", "identity": gone})
        made = tool(f"import socket\n{WAYS['tcp'].format(port=ports[0])}\nreturn 'connected'", needs=("network",))
        assert call(made, {}).content == "connected", "whose port it was is gone, so it is somebody else's"


# Nothing stays


def test_folders_deeper_than_anything_go_away(tool: Callable[..., Tool]) -> None:
    body = "for i in range(900):\n    os.mkdir('d' * 200, 0)\n    os.chdir('d' * 200)\nreturn 'deep'"
    if os.getuid():
        body = body.replace(", 0)", ")")
    call(tool(body), {})
    assert os.listdir(tempfile.gettempdir()) == []


def test_a_place_counts_and_goes(tmp_path: Path) -> None:
    with place() as made:
        assert not is_full(made, 1 << 20, 10)
        (made / "x").write_bytes(bytes(2 << 20))
        (made / "out").symlink_to(tmp_path)
        assert is_full(made, 1 << 20, 10)
        (tmp_path / "kept").write_text("kept")
        deep = os.getcwd()
        try:
            os.chdir(made)
            for _ in range(1100):
                os.mkdir("d")
                os.chdir("d")
        finally:
            os.chdir(deep)
        assert is_full(made, 1 << 30, 1000)
    assert not made.exists()
    assert (tmp_path / "kept").read_text() == "kept"


CALLER = """
import sys
from pathlib import Path
from glmstudio.tools.call import call
from glmstudio.tools.signature_schema import read_tools
print("ready", flush=True)
call(read_tools(Path(sys.argv[1]))[0], {})
"""


def test_no_process_outlives_the_studio(tool: Callable[..., Tool], spawn: Any, tmp_path: Path) -> None:
    made = tool("lib = ctypes.CDLL(None)\nlib.prctl(1, 0, 0, 0, 0)\nimport time\nwhile True: time.sleep(0.05)")
    studio = spawn("-c", CALLER, str(made.file), TMPDIR=str(tmp_path))
    assert studio.stdout.readline() == "ready\n"
    child = until(lambda: [each for each in psutil.Process(studio.pid).children() if runs_a_tool(each)])
    time.sleep(0.5)
    assert child[0].is_running()
    os.kill(studio.pid, signal.SIGKILL)
    studio.wait()
    gone, alive = psutil.wait_procs(child, timeout=5)
    assert (len(gone), alive) == (1, [])


def test_where_there_is_no_fence_only_harmless_tools_run(
    tool: Callable[..., Tool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "unfenced", lambda: "landlock")
    outcome = call(tool("return 'ran'"), {})
    assert outcome.content == "Error: This machine cannot run f in a sandbox, so it was not run."
    assert outcome.stopped is not None
    assert outcome.stopped.key == "tools.no_fence"
    box = toolbox().tools
    assert call(box["calculator"], {"expression": "1+1"}).content == "2"
    assert call(box["interpreter"], {"code": "1"}).stopped is not None
    assert call(box["fetch_page"], {"url": "http://a"}).stopped is not None


def test_a_machine_without_room_for_a_process_is_an_answer(
    tool: Callable[..., Tool], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tool("return 'ran'")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/no/such/python")
        assert told(call(made, {})) == stopped("crashed")
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    assert told(call(made, {})) == stopped("crashed")
