"""Which system calls a tool may make: the table against the kernel's headers, and a sweep over all numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from glmstudio.paths import paths
from glmstudio.system import seccomp as filter_module
from glmstudio.system.seccomp import allowed
from glmstudio.tools import workdir as place_module
from glmstudio.tools.call import call, unfenced
from glmstudio.tools.toolbox import Tool, toolbox
from glmstudio.tools.workdir import PREFIX, is_full, place, sweep

X86, ARM = (Path("/usr/include") / name for name in ("x86_64-linux-gnu/asm/unistd_64.h", "asm-generic/unistd.h"))
HARMFUL = [
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "kill",
    "tkill",
    "tgkill",
    "ptrace",
    "bpf",
    "mount",
    "setxattr",
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "listxattr",
    "llistxattr",
    "flistxattr",
    "getxattrat",
    "listxattrat",
    "removexattr",
    "fallocate",
    "memfd_create",
    "io_uring_setup",
    "keyctl",
    "unshare",
    "setns",
    "userfaultfd",
    "perf_event_open",
    "process_vm_readv",
    "pidfd_open",
    "fork",
    "vfork",
    "execve",
    "execveat",
    "bind",
    "listen",
    "accept",
    "accept4",
    "inotify_init1",
    "fanotify_init",
    "open_by_handle_at",
    "name_to_handle_at",
    "shmget",
    "msgget",
    "semget",
    "mq_open",
    "landlock_restrict_self",
    "seccomp",
    "setrlimit",
    "utimensat",
    "file_setattr",
    "splice",
    "vmsplice",
    "mknod",
    "mknodat",
    "timer_create",
]


def numbers(header: Path) -> dict[str, int]:
    """The calls of a header by name. The generic one names some twice: by themselves for 64 bits."""
    text = header.read_text()
    shared = dict(re.findall(r"#define __NR3264_(\w+) (\d+)$", text, re.MULTILINE))
    named = dict(re.findall(r"#define __NR_(\w+) (\d+)$", text, re.MULTILINE))
    named |= {
        name: shared[of]
        for name, of in re.findall(r"#define __NR_(\w+) __NR3264_(\w+)$", text, re.MULTILINE)
        if of in shared
    }
    return {name: int(number) for name, number in named.items()}


@pytest.mark.skipif(sys.platform != "linux", reason="the fence is Linux's")
@pytest.mark.parametrize(("column", "header"), [(0, X86), (1, ARM)])
def test_the_table_is_the_kernels(column: int, header: Path) -> None:
    known = numbers(header)
    assert len(known) > 250
    for network in (False, True):
        table = allowed(column, network=network)
        assert {name: known.get(name) for name in table} == table
        assert set(HARMFUL) & set(table) == set()
        assert ("connect" in table) is network
    every = [
        name
        for group in ("_FILES", "_MEMORY", "_WAITING", "_ITSELF", "_SOCKETS")
        for name in getattr(filter_module, group)
    ]
    assert [name for name in every if name in known and name not in allowed(column, network=True)] == []


SWEEP = """
libc = ctypes.CDLL(None, use_errno=True)
said = {}
for number in map(int, NUMBERS.split()):
    ctypes.set_errno(0)
    libc.syscall(number, -1, -1, -1, -1, -1, -1)
    said[number] = ctypes.get_errno()
return json.dumps(said)
"""


@pytest.fixture
def tool(home: Path) -> Callable[..., Tool]:
    def make(body: str, head: str = "") -> Tool:
        paths().tools.mkdir(parents=True, exist_ok=True)
        lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
        code = f'NEEDS = []\nimport ctypes, json, os, sys\n{head}\ndef f() -> str:\n    """F."""\n{lines}\n'
        (paths().tools / "mine.py").write_text(code)
        return toolbox().tools["f"]

    return make


needs_fence = pytest.mark.skipif(bool(unfenced()) or os.uname().machine != "x86_64", reason="needs the fence on x86-64")


@needs_fence
def test_every_call_that_is_not_named_is_refused(tool: Callable[..., Tool]) -> None:
    own = {56, 435, 41, 53, 302, 157, 72, 16, 44, 46, 307}  # those with rules of their own
    own |= {335, 336}  # the kernel's for its own probes: they pass every filter, and end whoever else makes them
    table = set(allowed(0, network=False).values())
    asked = sorted(set(range(600)) - table - own)
    import json

    said: dict[str, int] = {}
    for first in range(0, len(asked), 100):
        part = asked[first : first + 100]
        outcome = call(tool(SWEEP, f"NUMBERS = {' '.join(map(str, part))!r}"), {})
        assert outcome.content.startswith("{"), outcome.content
        said |= json.loads(outcome.content)
    eperm, enosys = 1, 38
    assert said == {str(number): eperm if number <= 470 else enosys for number in asked}


@needs_fence
@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("ctypes.CDLL(None, use_errno=True).ioctl(0, 0x40086602, 0)", -1),  # FS_IOC_SETFLAGS
        ("__import__('fcntl').ioctl(os.open('.', 0), 0x80086601, bytes(8))", "PermissionError"),  # FS_IOC_GETFLAGS
        ("__import__('fcntl').fcntl(os.open('.', 0), 1026, 1)", "PermissionError"),  # F_NOTIFY
        (
            "__import__('fcntl').fcntl(os.open(__file__ if 0 else sys.executable, 0), 1024, 0)",
            "PermissionError",
        ),  # F_SETLEASE
        ("os.getxattr(sys.executable, 'user.x')", "PermissionError"),
        ("os.listxattr(sys.executable)", "PermissionError"),
        ("os.posix_fallocate(os.open('a', os.O_CREAT | os.O_RDWR), 0, 1)", "PermissionError"),
        ("__import__('fcntl').fcntl(0, 1) >= 0", True),  # F_GETFD
        ("os.get_terminal_size.__name__", "get_terminal_size"),
    ],
)
def test_attributes_leases_and_reserved_room(tool: Callable[..., Tool], line: str, answer: object) -> None:
    body = f"try:\n    return repr({line})\nexcept OSError as error:\n    return repr(type(error).__name__)"
    assert call(tool(body), {}).content == repr(answer)


@needs_fence
def test_what_python_needs_works(tool: Callable[..., Tool]) -> None:
    body = """
import concurrent.futures, datetime, decimal, hashlib, random, re, shutil, socket, sqlite3, ssl, statistics, subprocess, tempfile
import asyncio, threading, time, zipfile
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x" * 1000); file.flush()
    shutil.copyfile(file.name, "copy")
os.makedirs("a/b"); os.rename("copy", "c"); os.rename("c", "d"); os.truncate("d", 10)
with zipfile.ZipFile("z.zip", "w") as archive:
    archive.write("d")
base = sqlite3.connect("base"); base.execute("create table t (a)"); base.commit(); base.close()
thread = threading.Thread(target=time.sleep, args=(0.01,)); thread.start(); thread.join()
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    assert list(pool.map(abs, [-1, 2])) == [1, 2]
asyncio.run(asyncio.sleep(0.01))
shutil.rmtree("a")
return str(random.random() < 1)
"""
    assert call(tool(body), {}).content == "True"


DISK = """
import ctypes, os
for number in range(300):
    {write}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize(
    "write",
    [
        "os.makedirs('closed', exist_ok=True); os.chmod('closed', 0o300)",
        "os.mkdir('d'); os.chdir('d')",
        "kept = globals().setdefault('kept', []); kept.append(open('x', 'wb')); os.unlink('x'); kept[-1].write(bytes(100_000)); kept[-1].flush()",
        "kept = globals().setdefault('kept', []); kept.append(os.open('.', os.O_TMPFILE | os.O_RDWR)); os.write(kept[-1], bytes(100_000))",
    ],
)
def test_what_cannot_be_seen_by_name_counts(write: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"{DISK.format(write=write)}\nprint('there', flush=True)\ninput()"]
    child = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        if "closed" in write and os.getuid() == 0:
            told = subprocess.run(
                ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c",  # root may read what is closed
                 f"import sys; sys.path.insert(0, {str(Path(place_module.__file__).parents[2])!r}); from glmstudio.tools import workdir as place\n"
                 f"from pathlib import Path; print(place.is_full(Path('.'), 10_000_000, 1000, {child.pid}))"],
                cwd=tmp_path, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert told.stdout == "True\n"
        else:
            assert is_full(tmp_path, 10_000_000, 1000, child.pid)
    finally:
        child.kill()
        child.wait()


def test_an_ordinary_folder_is_not_full(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(bytes(10_000))
    assert not is_full(tmp_path, 100_000, 10, os.getpid())
    assert is_full(tmp_path, 5_000, 10, os.getpid())
    assert is_full(tmp_path, 100_000, 2, os.getpid())


def test_what_a_killed_studio_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old, used, fresh, others = (tmp_path / f"{PREFIX}{name}" for name in ("old", "used", "fresh", "others"))
    for folder in (old, used, fresh, others):
        (folder / "inner").mkdir(parents=True)
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(tmp_path)
    for folder in (old, used, others):
        os.utime(folder, (1, 1))
    if os.getuid() == 0:
        os.chown(others, 4242, 4242)
    stands = subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()"], cwd=used, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert stands.stdout is not None
        stands.stdout.readline()
        sweep()
    finally:
        stands.kill()
        stands.wait()
    gone = {old} if os.getuid() == 0 else {old, others}
    assert {folder for folder in (old, used, fresh, others) if not folder.exists()} == gone
    assert link.is_symlink()
    with place() as made:
        assert made.is_dir()
