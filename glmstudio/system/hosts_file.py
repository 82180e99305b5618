"""One line in the hosts file that leads this machine's name to itself, put in and taken out without a trace.

Our runs do not need it; it is for other tools that look the name up. The editor knows lines as bytes, so that comments,
tabs, line ends and a missing last newline stay as they are: the line goes in whole and comes out whole.

This file is also the program that an administrator's rights are asked for (`python3 -I hosts_file.py add NAME`); it
needs nothing but Python, takes no path from outside, and changes nothing but the hosts file.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import ipaddress
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: its hosts file is never edited from here
    fcntl = None  # type: ignore[assignment]

FILE = Path("/etc/hosts")
ADDRESS = "127.0.1.1"  # Debian's custom for a name that has no fixed address
_TAG = "# added by GLM Studio"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\Z")


class Refused(Exception):
    """The hosts file stays as it is; `reason` is a word that the callers have sentences for."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


# --- Text ------------------------------------------------------------------------------------------------------------


def with_name(text: bytes, name: str, *, day: str = "") -> bytes:
    """The file's text with the line for `name`; the same text where the name leads to a loopback address already.

    Raises Refused: "name" for what is no host name, "mapped" where a line leads it to another address.
    """
    if not is_host_name(name):
        raise Refused("name", name[:80])
    addresses = addresses_of(text, name)
    if any((parsed := _parsed(address)) and parsed.is_loopback for address in addresses):
        return text
    if addresses:
        raise Refused("mapped", ", ".join(addresses))
    newline = b"\r\n" if b"\r\n" in text else b"\n"
    line = f"{ADDRESS}\t{name}\t{_TAG} {day or time.strftime('%Y-%m-%d')}".encode() + newline
    # Before a last line that lacks its newline, so that taking ours out again leaves every other byte alone.
    at = text.rfind(b"\n") + 1
    return text[:at] + line + text[at:]


def without_name(text: bytes, name: str) -> bytes:
    """The file's text without the lines that `with_name` put in for `name`; others are never touched."""
    ours = re.compile(rb"%s\t%s\t%s \d{4}-\d\d-\d\d\r?\n" % tuple(re.escape(p.encode()) for p in (ADDRESS, name, _TAG)))
    return b"".join(line for line in text.splitlines(keepends=True) if not ours.fullmatch(line))


def is_host_name(name: str) -> bool:
    """Whether `name` may stand in a hosts file: letters, digits, hyphens and dots, as the standard has it."""
    return bool(_NAME.match(name))


def our_names(text: bytes) -> list[str]:
    """The names whose lines are ours."""
    lines = re.findall(rb"^%s\t(\S+)\t%s " % (re.escape(ADDRESS.encode()), _TAG.encode()), text, re.MULTILINE)
    return [name.decode("ascii", "replace") for name in lines]


def addresses_of(text: bytes, name: str) -> list[str]:
    """Where the file leads `name`, first line first, as the system's resolver reads it (names know no case)."""
    found = []
    for line in text.split(b"\n"):
        address, *names = line.partition(b"#")[0].split() or [b""]
        if name.lower().encode() in (known.lower() for known in names) and _parsed(address.decode("ascii", "replace")):
            found.append(address.decode("ascii"))
    return found


def difference(old: bytes, new: bytes) -> str:
    """What changes, as `diff` writes it."""
    before, after = (text.decode("utf-8", "replace").splitlines() for text in (old, new))
    return "\n".join(difflib.unified_diff(before, after, str(FILE), str(FILE), lineterm="", n=2))


def digest(text: bytes) -> str:
    """A mark of the text that a person was shown."""
    return hashlib.sha256(text).hexdigest()


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None


# --- File ------------------------------------------------------------------------------------------------------------


def change(action: str, name: str, expected: str, file: Path = FILE) -> Path | None:
    """Do "add" or "remove" for `name`, if the file still has the digest `expected` ("" for any).

    Returns the backup, or None where there was nothing to change.

    Raises Refused: "changed" (somebody else wrote the file since), "symlink", "rights" and "read_only", "lost" (the new
    text would lack something), and those of `with_name`.
    """
    with _locked(file):
        if file.is_symlink():
            raise Refused("symlink", str(file.readlink()))
        old = file.read_bytes()
        if expected and digest(old) != expected:
            raise Refused("changed")
        new = with_name(old, name) if action == "add" else without_name(old, name)
        if new == old:
            return None
        if (new if action == "remove" else old) != without_name(new, name):
            raise Refused("lost")
        backup = _back_up(file)
        _replace(file, new, old)
        return backup


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Turn the errors of rights into words, and keep two of us apart."""
    try:
        with _held(file):
            yield
    except PermissionError as error:
        raise Refused("rights", str(error.filename)) from error
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EPERM):
            raise Refused("read_only", str(error.filename)) from error
        raise


@contextlib.contextmanager
def _held(file: Path) -> Iterator[None]:
    """The lock on the file that has this name now: whoever waited may hold one that was replaced meanwhile."""
    while True:
        with file.open("rb") as stream:
            if fcntl:
                fcntl.flock(stream, fcntl.LOCK_EX)
            held, now = os.fstat(stream.fileno()), file.stat()
            if not fcntl or (held.st_dev, held.st_ino) == (now.st_dev, now.st_ino):
                yield
                return


def _back_up(file: Path) -> Path:
    moment = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        backup = file.with_name(f"{file.name}.glmstudio-{moment}{f'-{number}' if number else ''}.bak")
        if not backup.exists():
            shutil.copyfile(file, backup)
            _dress(backup, file)
            return backup
    raise Refused("rights", str(file.parent))


def _replace(file: Path, text: bytes, old: bytes) -> None:
    """Write the whole text or nothing, and nothing where it is not `old` any more (Refused); in place only where the
    file is a mount of its own, as in a container."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.glmstudio-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        _dress(temporary, file)
        if file.read_bytes() != old:  # by a program that takes no lock, while the backup was made
            raise Refused("changed")
        try:
            os.replace(temporary, file)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            _rewrite(file, text)
    finally:
        temporary.unlink(missing_ok=True)


def _rewrite(file: Path, text: bytes) -> None:
    with file.open("r+b") as stream:
        stream.write(text)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())


def _dress(copy: Path, original: Path) -> None:
    """Mode, label and owner of the original: a name service that may not read the file is worse than a wrong line."""
    shutil.copystat(original, copy)
    os.utime(copy)  # programs that watch the file go by its time
    owner = original.stat()
    if (copy.stat().st_uid, copy.stat().st_gid) != (owner.st_uid, owner.st_gid):
        os.chown(copy, owner.st_uid, owner.st_gid)


def main(arguments: list[str]) -> int:
    """`add NAME [DIGEST]` or `remove NAME [DIGEST]`; prints the backup, or the reason with exit status 3."""
    if len(arguments) not in (2, 3) or arguments[0] not in ("add", "remove"):
        sys.stderr.write("usage: hosts_file.py add|remove NAME [DIGEST]\n")
        return 2
    try:
        backup = change(arguments[0], arguments[1], "".join(arguments[2:]))
    except Refused as refused:
        sys.stdout.write(f"{refused.reason}\t{refused.detail}\n")
        return 3
    sys.stdout.write(f"{backup or ''}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
