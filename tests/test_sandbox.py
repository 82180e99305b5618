"""The process of a tool call: what it may not do is stopped and named, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from glmstudio.tools import call as calling
from glmstudio.tools.call import Outcome, call
from glmstudio.tools.permissions import set_folder
from glmstudio.tools.toolbox import toolbox


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the temporary folders of calls are made in this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def run(code: str) -> Outcome:
    return call(toolbox().tools["interpreter"], {"code": code})


def stopped(outcome: Outcome) -> str:
    return outcome.stopped.key.removeprefix("tools.stopped_") if outcome.stopped else ""


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("1 + 1", "2"),
        ("print('a')\n[1, 2]", "a\n[1, 2]"),
        ("x = 5", "(nothing was printed)"),
        ("import math, json, datetime, re, statistics\nround(math.pi, 3)", "3.142"),
        ("import numpy\nint(numpy.arange(4).sum())", "6"),
        ("open('a', 'w').write('hi')\nopen('a').read()", "'hi'"),
        ("import tempfile, os\nwith tempfile.TemporaryFile() as f: f.write(b'x')\nos.listdir('.')", "[]"),
        ("from zoneinfo import ZoneInfo\nstr(ZoneInfo('Asia/Tokyo'))", "'Asia/Tokyo'"),
        ("import threading\nt = threading.Thread(target=print, args=('hi',)); t.start(); t.join()", "hi"),
        ("import os\nsorted(os.environ)", None),
    ],
)
def test_what_code_may_do(code: str, answer: str | None) -> None:
    outcome = run(code)
    assert (outcome.failed, outcome.stopped) == (False, None), outcome.content
    if answer is not None:
        assert outcome.content == answer
    else:
        assert not {"PATH_OF", "GLMSTUDIO_HOME", "API_KEY", "USER"} & set(eval(outcome.content))  # noqa: S307


FORBIDDEN = [
    ("file", "open('/etc/passwd').read()"),
    ("file", "import os\nos.listdir('/root')"),
    ("file", "import os\nos.listdir('/')"),
    ("file", "open('/proc/self/environ', 'rb').read()"),
    ("file", "open('/proc/1/cmdline', 'rb').read()"),
    ("file", "open('/tmp/glmstudio-out', 'w')"),
    ("file", "open('../out', 'w')"),
    ("file", "import os\nos.mkdir('/tmp/glmstudio-out')"),
    ("file", "import os\nos.symlink('/etc/passwd', 'link')\nopen('link').read()"),
    ("file", "open('/dev/zero', 'rb')"),
    ("file", f"open({str(Path(__file__))!r}).read()"),
    ("file", "import os\nos.remove('/etc/hostname')"),
    ("file", "import os\nos.truncate('/etc/hostname', 0)"),
    ("file", "import os\nos.chmod('/etc/hostname', 0o777); open('/etc/hostname')"),
    ("network", "import socket\nsocket.socket()"),
    ("network", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)"),
    ("network", "import socket\nsocket.socket(socket.AF_UNIX)"),
    ("network", "import socket\nsocket.create_server(('127.0.0.1', 0))"),
    ("process", "import os\nos.fork()"),
    ("process", "import os\nwhile True: os.fork()"),
    ("process", "import subprocess\nsubprocess.run(['/bin/ls'])"),
    ("process", "import os\nos.execv('/bin/ls', ['ls'])"),
    ("process", "import os\nos.posix_spawn('/bin/ls', ['ls'], {})"),
    ("process", "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()"),
    ("process", "import os\nos.kill(os.getppid(), 9)"),
    ("process", "import os\nos.kill(1, 0)"),
    ("memory", "'a' * 10**10"),
    ("memory", "x = []\nwhile True: x.append('a' * 10**7)"),
    ("crashed", "import ctypes\nctypes.string_at(0)"),
    ("crashed", "import os\nos._exit(3)"),
    ("crashed", "import os\nos.abort()"),
]


@pytest.mark.parametrize(("kind", "code"), FORBIDDEN, ids=range(len(FORBIDDEN)))
def test_what_is_not_allowed_is_stopped_and_named(kind: str, code: str) -> None:
    before = time.monotonic()
    outcome = run(code)
    assert outcome.failed, outcome.content
    assert stopped(outcome) == kind, outcome.content
    assert outcome.content == f"Error: interpreter was stopped: {calling._STOPPED[kind][1]}."
    assert time.monotonic() - before < 8
    assert not Path("/tmp/glmstudio-out").exists()


# The kernel itself is asked; Python's own checks do not stand between.
SYSTEM_CALLS = {
    "fork": "libc.fork()",
    "vfork by clone": "libc.syscall(56, 0x4000 | 17, 0, 0, 0, 0)",
    "clone3": "libc.syscall(435, 0, 0)",
    "socket": "libc.socket(2, 1, 0)",
    "ptrace": "libc.ptrace(16, os.getppid(), 0, 0)",
    "kill": "libc.kill(os.getppid(), 9)",
    "tgkill": "libc.syscall(234, os.getppid(), os.getppid(), 9)",
    "pidfd": "libc.syscall(434, os.getppid(), 0)",
    "memory of another": "libc.syscall(310, os.getppid(), 0, 0, 0, 0, 0)",
    "io_uring": "libc.syscall(425, 8, 0)",
    "mount": "libc.mount(b'x', b'/tmp', b'tmpfs', 0, None)",
    "unshare": "libc.unshare(0x10000000)",
    "bpf": "libc.syscall(321, 0, 0, 0)",
    "key": "libc.syscall(250, 0, 0)",
    "limit": "libc.prlimit64(0, 9, None, None) if hasattr(libc, 'prlimit64') else libc.syscall(302, 0, 9, 0, 0)",
    "execve": "libc.execve(b'/bin/ls', None, None)",
    "second numbers": "libc.syscall(0x40000000 + 41, 2, 1, 0)",
    "chroot": "libc.chroot(b'.')",
    "reboot": "libc.syscall(169, 0, 0, 0, 0)",
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_the_kernel_refuses_what_python_would_not() -> None:
    lines = "\n".join(f"told[{name!r}] = {code}" for name, code in SYSTEM_CALLS.items())
    outcome = run(f"import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\ntold = {{}}\n{lines}\ntold")
    assert not outcome.failed, outcome.content
    assert eval(outcome.content) == dict.fromkeys(SYSTEM_CALLS, -1)  # noqa: S307
    assert psutil.pid_exists(os.getpid())


def test_limits_cannot_be_raised_and_powers_are_gone() -> None:
    code = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))"
    assert run(code).failed
    assert run("import os\nos.setuid(65534)").failed or os.getuid() != 0
    assert run("import os\nos.nice(-5)").failed


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "import signal\nsignal.signal(24, lambda *_: 0)\nwhile True: pass",
    ],
)
def test_what_takes_too_long_is_ended(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "_SECONDS", 1.0)
    began = time.monotonic()
    outcome = run(code)
    assert stopped(outcome) == "time"
    assert time.monotonic() - began < 4


@pytest.mark.slow
def test_a_busy_loop_is_ended_by_the_limit_on_its_time() -> None:
    outcome = run("import signal\nsignal.signal(24, lambda *_: 0)\nwhile True: pass")
    assert stopped(outcome) == "time"
    assert outcome.seconds < 15


def test_cancel_ends_a_call_at_once() -> None:
    cancel = threading.Event()
    threading.Timer(0.5, cancel.set).start()
    began = time.monotonic()
    outcome = call(toolbox().tools["interpreter"], {"code": "import time\ntime.sleep(60)"}, cancel=cancel)
    assert (outcome.content, outcome.failed) == ("Error: The user stopped this call.", True)
    assert time.monotonic() - began < 3
    assert left() == []


def left() -> list[str]:
    """What of a call is still there: processes, folders."""
    found = [" ".join(each.cmdline()) for each in psutil.Process().children(recursive=True)]
    folders = [str(each) for each in Path(tempfile.gettempdir()).glob("glmstudio-tool-*")]
    return [each for each in found if "child.py" in each] + folders


def test_what_prints_for_ever_or_answers_too_much_is_cut() -> None:
    long = run("print('x' * 50_000)")
    assert long.content.endswith(" … [cut: 50000 characters in all]")
    assert len(long.content) < 4100
    assert stopped(run("while True: print('x' * 1_000_000)")) == "memory"
    code = "import os\nfor fd in range(64):\n    try:\n        while True: os.write(fd, b'x' * 65536)\n    except OSError: pass"
    assert stopped(run(code)) in {"output", "crashed", "time"}


@pytest.mark.parametrize(
    "forged", ['{"content": 5}', "[]", "null", '{"stopped": "x"}', "{", '{"content": "' + "[" * 9 + '"}']
)
def test_a_forged_answer_is_only_text(forged: str) -> None:
    code = f"import os\nfor fd in range(64):\n    try: os.write(fd, {forged!r}.encode())\n    except OSError: pass\nos._exit(0)"
    outcome = run(code)
    assert isinstance(outcome.content, str)
    assert left() == []


def test_files_of_the_chosen_folder_and_no_others(home: Path, tmp_path: Path) -> None:
    tools, chosen = toolbox().tools, tmp_path / "docs"
    (chosen / "sub").mkdir(parents=True)
    (chosen / "a.txt").write_text("hello")
    (chosen / "sub/b.txt").write_text("there")
    (chosen / "bin").write_bytes(b"a\x00b")
    (tmp_path / "secret").write_text("no")
    (chosen / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(chosen / "pipe")
    assert call(tools["list_files"], {}).content == "Error: The user has not chosen a folder that may be read."
    set_folder(str(chosen))
    assert call(tools["list_files"], {}).content == "a.txt\nbin\nlink\npipe\nsub/"
    assert call(tools["read_file"], {"path": "sub/b.txt"}).content == "there"
    for path, said in {
        "bin": "Error: bin is not a text file.",
        "nothing": "Error: There is no file nothing.",
        "pipe": "Error: pipe is not a file.",
        "../secret": "Error: Only files inside the user's folder can be read.",
        "/etc/passwd": "Error: Only files inside the user's folder can be read.",
        "link": "Error: Only files inside the user's folder can be read.",
        "a\x00b": "Error: This is not a path.",
    }.items():
        assert call(tools["read_file"], {"path": path}).content == said
    outcome = run(f"open({str(chosen / 'a.txt')!r}).read()")
    assert stopped(outcome) == "file", "the folder is granted to the tools for files alone"


def test_a_tool_of_the_user_is_fenced_and_may_use_what_is_installed(home: Path) -> None:
    folder = home / "tools"
    folder.mkdir(parents=True)
    (folder / "own.py").write_text(
        'import numpy\n\ndef add(a: list[int]) -> str:\n    """Adds."""\n    return str(numpy.sum(a))\n\n'
        'def peek(path: str) -> str:\n    """Peeks."""\n    return open(path).read()\n\n'
        'def table(n: int) -> dict:\n    """A table."""\n    return {\'n\': n}\n'
    )
    tools = toolbox().tools
    assert call(tools["add"], {"a": [1, 2, 3]}).content == "6"
    assert call(tools["table"], {"n": 2}).content == '{"n": 2}'
    assert stopped(call(tools["peek"], {"path": "/etc/passwd"})) == "file"
    (home / "chats").mkdir()
    (home / "chats/a.json").write_text("private")
    assert stopped(call(tools["peek"], {"path": str(home / "chats/a.json")})) == "file"
    assert call(tools["peek"], {"path": str(folder / "own.py")}).content.startswith("import numpy")


def test_secrets_of_the_studio_do_not_reach_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hidden-1")
    monkeypatch.setenv("GLMSTUDIO_SERVER_TOKEN", "hidden-2")
    outcome = run("import os\nstr(dict(os.environ))")
    assert "hidden" not in outcome.content
    assert os.path.expanduser("~") not in outcome.content


def test_a_call_ends_with_the_studio() -> None:
    code = (
        "from glmstudio.tools.call import call\nfrom glmstudio.tools.toolbox import toolbox\n"
        "call(toolbox().tools['interpreter'], {'code': 'import time\\ntime.sleep(60)'})"
    )
    studio = subprocess.Popen([sys.executable, "-c", code])
    children: list[psutil.Process] = []
    end = time.monotonic() + 20
    while not children and time.monotonic() < end:
        children = [each for each in psutil.Process(studio.pid).children() if "child.py" in " ".join(each.cmdline())]
        time.sleep(0.05)
    time.sleep(0.5)
    studio.send_signal(signal.SIGKILL)
    studio.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert children
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def test_where_there_is_no_fence_only_harmless_tools_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "unfenced", lambda: "landlock")
    tools = toolbox().tools
    assert call(tools["calculator"], {"expression": "6*7"}).content == "42"
    for name, arguments in {
        "interpreter": {"code": "1"},
        "read_file": {"path": "a"},
        "fetch_page": {"url": "x"},
    }.items():
        outcome = call(tools[name], arguments)
        assert outcome.stopped is not None
        assert outcome.stopped.key == "tools.no_fence"
        assert outcome.content == f"Error: This machine cannot fence {name} off, so it was not run."
