"""The hosts file: over many generated ones, on real files and mounts, and through the system's own resolver."""

from __future__ import annotations

import os
import random
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from glmstudio.system import hosts_file
from glmstudio.system.hosts_file import Refused

EDITOR = Path(hosts_file.__file__)
LINE = b"127.0.1.1\tnlp\t# added by GLM Studio 2026-11-24\n"
PARTS = [
    b"127.0.0.1 localhost", b"127.0.0.1\tlocalhost\tlocalhost.localdomain", b"::1 localhost ip6-localhost", b"", b"   ",
    b"# a comment that names nlp", b"10.0.0.5 server nlp-2 nlp.example", b"192.168.1.7\tprinter # nlp", b"fe80::1%eth0 router",
    b"ff02::1 ip6-allnodes", b"not an address nlp", b"127.0.0.1 localhost", b"  127.0.0.53   stub  ", b"\xff\xfe bytes",
    "10.1.1.1 服务器".encode(), b"10.0.0.5 server\x0cnlpx", b"# 127.0.1.1\tnlp\t# added by GLM Studio",
    b"127.0.1.1\tother\t# added by GLM Studio 2020-01-01",
]  # fmt: skip


def generated(count: int) -> list[bytes]:
    chance = random.Random(29400)
    files = []
    for _ in range(count):
        newline = chance.choice([b"\n", b"\n", b"\r\n"])
        text = newline.join(chance.choices(PARTS, k=chance.randrange(0, 12)))
        files.append(text + chance.choice([newline, newline, b"", newline * 3]))
    return files


# --- Text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", generated(220))
def test_a_line_goes_in_once_and_out_to_the_last_byte(text: bytes) -> None:
    new = hosts_file.with_name(text, "nlp")
    assert hosts_file.addresses_of(new, "nlp") == ["127.0.1.1"]
    assert new.count(b"\tnlp\t# added by GLM Studio 2") == 1
    assert len(new.splitlines()) == len(text.splitlines()) + 1
    assert hosts_file.with_name(new, "nlp") == new
    assert hosts_file.with_name(new, "NLP") == new
    assert hosts_file.without_name(new, "nlp") == text
    assert hosts_file.without_name(text, "nlp") == text
    assert [line for line in hosts_file.difference(text, new).splitlines()[2:] if line[:1] in "+-"] != []


@pytest.mark.parametrize(
    "text",
    [
        b"127.0.0.1 localhost nlp\n",
        b"127.0.1.1 NLP\n",
        b"::1\tlocalhost\tnlp # here\n",
        b"127.0.1.1 x\r\n127.0.0.1 nlp",
    ],
)
def test_a_name_that_leads_here_already_changes_nothing(text: bytes) -> None:
    assert hosts_file.with_name(text, "nlp") == text
    assert hosts_file.without_name(text, "nlp") == text


def test_a_name_of_another_address_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        hosts_file.with_name(b"10.0.0.9 nlp\n", "nlp")
    assert (refused.value.reason, refused.value.detail) == ("mapped", "10.0.0.9")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "nlp\n10.0.0.1 bank.example",
        "-nlp",
        "nlp-",
        "nlp#",
        "n" * 64,
        "a..b",
        "nlp.",
        "名",
        "$(id)",
        "a" * 300,
    ],
)
def test_what_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        hosts_file.with_name(b"", name)
    assert refused.value.reason == "name"


def test_the_line_and_the_difference() -> None:
    old = b"127.0.0.1 localhost\n"
    new = hosts_file.with_name(old, "nlp", day="2026-11-24")
    assert new == old + LINE
    assert hosts_file.difference(old, new) == (
        "--- /etc/hosts\n+++ /etc/hosts\n@@ -1 +1,2 @@\n 127.0.0.1 localhost\n"
        "+127.0.1.1\tnlp\t# added by GLM Studio 2026-11-24"
    )
    assert hosts_file.our_names(new) == ["nlp"]
    assert hosts_file.our_names(old) == []


def test_a_line_that_a_person_changed_is_not_ours_any_more() -> None:
    text = LINE.replace(b"nlp", b"nlp nlp2")
    assert hosts_file.without_name(text, "nlp") == text


# --- File ------------------------------------------------------------------------------------------------------------


def change(file: Path, action: str = "add", name: str = "nlp") -> Path | None:
    return hosts_file.change(action, name, hosts_file.digest(file.read_bytes()), file)


def test_the_file_keeps_its_mode_and_owner_and_a_backup(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_bytes(b"127.0.0.1 localhost")
    file.chmod(0o640)
    os.chown(file, 65534, 65534)
    os.utime(file, (1, 1))
    backup = change(file)
    assert backup is not None
    for each in (file, backup):
        facts = each.stat()
        assert (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid) == (0o640, 65534, 65534)
        assert facts.st_mtime > 1000
    assert backup.read_bytes() == b"127.0.0.1 localhost"
    assert backup.name.startswith("hosts.glmstudio-")
    assert change(file) is None
    assert change(file, "remove") is not None
    assert file.read_bytes() == b"127.0.0.1 localhost"
    assert {each.name for each in tmp_path.iterdir() if not each.name.endswith(".bak")} == {"hosts"}
    assert len(list(tmp_path.iterdir())) == 3  # no backup overwrote another


def test_a_file_that_changed_since_it_was_shown_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_bytes(b"127.0.0.1 localhost\n")
    shown = hosts_file.digest(file.read_bytes())
    file.write_bytes(b"127.0.0.1 localhost\n10.0.0.1 x\n")
    with pytest.raises(Refused, match="changed"):
        hosts_file.change("add", "nlp", shown, file)
    assert file.read_bytes() == b"127.0.0.1 localhost\n10.0.0.1 x\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "hosts").symlink_to("real")
    with pytest.raises(Refused) as refused:
        change(tmp_path / "hosts")
    assert (refused.value.reason, refused.value.detail) == ("symlink", "real")


def test_without_the_right_to_write_nothing_changes() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        _refuse_another_user(Path(name))


def _refuse_another_user(folder: Path) -> None:
    folder.chmod(0o755)
    file = folder / "hosts"
    file.write_bytes(b"127.0.0.1 localhost\n")
    code = (
        "import os, pathlib, sys; sys.path.insert(0, sys.argv[2]); import hosts_file as hosts\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: hosts.change('add', 'nlp', '', pathlib.Path(sys.argv[1]))\n"
        "except hosts.Refused as refused: print(refused.reason)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file), str(EDITOR.parent)], capture_output=True, text=True)
    assert done.stdout == "rights\n", done.stderr
    assert file.read_bytes() == b"127.0.0.1 localhost\n"


IN_A_NAMESPACE = """
set -e
cd "$1"
mount --make-rprivate /
%s
"""


def in_a_namespace(folder: Path, script: str) -> str:
    """Run a shell script with mounts (and a host name) of its own."""
    (folder / "script.sh").write_text(IN_A_NAMESPACE % script)
    done = subprocess.run(
        ["unshare", "--mount", "--uts", "bash", str(folder / "script.sh"), str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_on_a_disk_that_is_read_only(tmp_path: Path) -> None:
    out = in_a_namespace(
        tmp_path,
        f"""
        mkdir etc; echo '127.0.0.1 localhost' > etc/hosts; cp {EDITOR} hosts_file.py; mount --bind etc etc; mount -o remount,ro,bind etc
        {sys.executable} -c 'import hosts_file as hosts, pathlib
try: hosts.change("add", "nlp", "", pathlib.Path("etc/hosts"))
except hosts.Refused as refused: print(refused.reason)'
        """,
    )
    assert out == "read_only\n"


def test_a_file_that_is_a_mount_of_its_own_is_written_in_place_and_the_system_reads_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"127.0.0.1 localhost")
    out = in_a_namespace(
        tmp_path,
        f"""
        hostname nlp-{os.getpid()}; name=$(hostname)
        mkdir etc; cp -a /etc/. etc; mount --bind etc /etc; mount --bind mine /etc/hosts
        cp {EDITOR} hosts_file.py
        getent ahosts "$name" > /dev/null && exit 9
        {sys.executable} -I hosts_file.py add "$name"
        getent ahosts "$name" | head -1
        {sys.executable} -I hosts_file.py add "$name"
        cp /etc/hosts with
        {sys.executable} -I hosts_file.py remove "$name"
        """,
    )
    first, resolved, again, removed = out.splitlines()
    assert first.startswith("/etc/hosts.glmstudio-")
    assert resolved.startswith("127.0.1.1")
    assert again == ""
    assert removed.startswith("/etc/hosts.glmstudio-")
    assert (tmp_path / "mine").read_bytes() == b"127.0.0.1 localhost"
    assert f"nlp-{os.getpid()}" in (tmp_path / "with").read_text()


def test_the_program_for_an_administrator_takes_two_words_and_nothing_else() -> None:
    for arguments in ([], ["add"], ["edit", "nlp"], ["add", "nlp", "x", "/etc/passwd"]):
        done = subprocess.run([sys.executable, "-I", str(EDITOR), *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (2, "usage: hosts_file.py add|remove NAME [DIGEST]\n")
    own = hosts_file.FILE.read_bytes()
    done = subprocess.run(
        [sys.executable, "-I", str(EDITOR), "add", f"x-{socket.gethostname()}", "0" * 64],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (3, "changed\t\n")
    assert hosts_file.FILE.read_bytes() == own


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    out = in_a_namespace(
        tmp_path,
        f"""
        mkdir etc; mount -t tmpfs -o size=16k tmpfs etc; echo '127.0.0.1 localhost' > etc/hosts; cp {EDITOR} hosts_file.py
        head -c 1000000 /dev/zero > etc/filler 2>/dev/null || true
        {sys.executable} -c 'import hosts_file as hosts, pathlib
try: hosts.change("add", "nlp", "", pathlib.Path("etc/hosts"))
except OSError as error: print(error.strerror)'
        cat etc/hosts; ls -A etc
        """,
    )
    assert out.splitlines()[:2] == ["No space left on device", "127.0.0.1 localhost"]
    assert ".hosts.glmstudio" not in out


def test_three_at_once_lose_no_line(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    code = "import sys; from pathlib import Path; from glmstudio.system.hosts_file import change; change('add', sys.argv[2], '', Path(sys.argv[1]))"
    for turn in range(6):
        file.write_bytes(b"127.0.0.1 localhost\n")
        names = [f"host{turn}-{number}" for number in range(3)]
        started = [
            subprocess.Popen([sys.executable, "-c", code, str(file), name], cwd=EDITOR.parents[2]) for name in names
        ]
        assert [each.wait(60) for each in started] == [0, 0, 0]
        assert all(name.encode() in file.read_bytes() for name in names)


def test_a_line_that_another_program_adds_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "hosts"
    file.write_bytes(b"127.0.0.1 localhost\n")
    backed_up = hosts_file._back_up

    def slow(of: Path) -> Path:
        made = backed_up(of)
        of.write_bytes(b"127.0.0.1 localhost\n10.0.0.9 theirs\n")
        return made

    monkeypatch.setattr(hosts_file, "_back_up", slow)
    with pytest.raises(Refused) as refused:
        hosts_file.change("add", "mine", "", file)
    assert refused.value.reason == "changed"
    assert b"10.0.0.9 theirs" in file.read_bytes()
