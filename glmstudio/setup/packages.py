"""pip in the environment: its output to a file, its progress in words, its failures with a remedy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

from glmstudio.setup.messages import Stop, say
from glmstudio.setup.state import LOG, PYTHON, VENV
from glmstudio.setup.steps import step

_TEMPORARY = VENV / "tmp"


def install(position: str, title: str, arguments: list[str]) -> None:
    """Run `pip install` with these arguments. Raises Stop with the reason in plain words."""
    progress = Progress()
    command = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "raw" if _tells_figures() else "off", *arguments]
    # Downloads are unpacked on the disk that they are for: /tmp is often small, or in memory.
    _TEMPORARY.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(_TEMPORARY), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    environment.pop("PYTHONPATH", None)
    environment["DS_BUILD_OPS"] = "0"  # DeepSpeed compiles what it needs when it needs it, not all it has now
    tail: deque[str] = deque(maxlen=400)
    with step(position, title, progress.part), LOG.open("a", encoding="utf-8") as log:
        log.write(" ".join(command) + "\n")
        # It inherits the lock (close_fds), so that a pip whose launcher was killed is waited for by the next launcher.
        with subprocess.Popen(
            command,
            env=environment,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as pip:
            for line in pip.stdout or ():
                if not progress.read(line):
                    log.write(line)
                    log.flush()
                    tail.append(line)
        if pip.returncode != 0:
            raise Stop(explain("".join(tail)))


class Progress:
    """What pip is doing, read from what it prints."""

    def __init__(self) -> None:
        self._found: set[str] = set()
        self._fetched: list[str] = []
        self._bytes = (0, 0)
        self._unpacking: set[str] = set()

    def read(self, line: str) -> bool:
        """Take note of a line; True if it was only a figure, of no interest to a log."""
        if figures := re.match(r"Progress (\d+) of (\d+)", line):
            self._bytes = (int(figures[1]), int(figures[2]))
            return True
        if collecting := re.match(r"Collecting ([\w.-]+)", line):
            self._found.add(_plain(collecting[1]))
        elif wheel := re.match(
            r"\s*(?:Downloading|Using cached|Processing) (?:\S*/)?([\w.]+)-\d\S*(?:whl|gz)(?: |$)", line
        ):
            self._fetched.append(_plain(wheel[1]))
            self._bytes = (0, 0)
        elif unpacking := re.match(r"Installing collected packages: (.*)", line):
            self._unpacking = {_plain(name) for name in unpacking[1].split(", ")}
        return False

    def part(self) -> str:
        """How far it is, in a few words; empty before there is anything to say."""
        if self._unpacking:
            count = min(1 + len(self._unpacking & {_plain(name) for name in _installed()}), len(self._unpacking))
            return say("unpacking", count=count, total=len(self._unpacking))
        if not self._found:
            return ""
        if not self._fetched:
            return say("looking", count=len(self._found))
        total = max(len(self._found), len(self._fetched))
        part = say("downloading", name=self._fetched[-1], count=len(self._fetched), total=total)
        megabytes = [figure / 1e6 for figure in self._bytes]
        return say("megabytes", part=part, done=megabytes[0], size=megabytes[1]) if megabytes[1] > 10 else part


def renew_pip(position: str) -> None:
    """Bring in a pip that tells how far its downloads are."""
    if not _tells_figures():
        install(position, "pip", ["--upgrade", "pip"])


def explain(output: str) -> str:
    """What went wrong, what helps, and where the rest of pip's words are."""
    return _reason(output) + "\n" + say("log", log=LOG)


def _reason(output: str) -> str:
    if re.search(
        r"No space left on device|\[Errno (28|122)\]|Disk quota exceeded|not enough space on the disk", output
    ):
        return say("disk_full", folder=VENV)
    if denied := re.search(r"Permission denied[^\n]*|Read-only file system[^\n]*", output):
        return say("not_writable", folder=VENV, hint=denied[0].strip())
    missing = re.search(r"requirement torch(?:==(\S+))? \(from versions: (none)?", output)
    unreachable = next((found for pattern in _NETWORK if (found := re.search(pattern, output))), None)
    if unreachable and not (missing and missing[2] is None):
        return say("no_network", hint=unreachable[0])
    if missing:
        return say("no_build", version=missing[1] or "", python="{}.{}".format(*sys.version_info))
    errors = re.findall(r"^\s*ERROR: (.*)", output, re.MULTILINE)
    return say("pip_failed", hint=errors[-1] if errors else output.strip().rpartition("\n")[2], folder=VENV)


# The most telling first: pip often wraps one in the other.
_NETWORK = (
    r"Temporary failure in name resolution|Name or service not known|getaddrinfo failed|nodename nor servname provided",
    r"Network is unreachable|No route to host|Connection refused|Connection reset by peer",
    r"CERTIFICATE_VERIFY_FAILED|Cannot connect to proxy|ProxyError",
    r"[Rr]ead timed out|[Cc]onnect(?:ion)? (?:to \S+ )?time(?:d )?out|IncompleteRead|RemoteDisconnected",
    r"NameResolutionError|NewConnectionError|Max retries exceeded",
)


def installed_version(name: str) -> str:
    """The version of a package in the environment; empty if it is not there."""
    return _installed().get(name, "")


def forget_half_unpacked() -> None:
    """Remove the notes of packages that a killed pip left incomplete, so that pip does not count them as installed."""
    for folder in _notes():
        if not (folder / "RECORD").exists():
            shutil.rmtree(folder)


def _installed() -> dict[str, str]:
    pairs = (folder.name[: -len(".dist-info")].partition("-") for folder in _notes())
    return {name: version for name, _, version in pairs}


def _notes() -> list[Path]:
    return [*VENV.glob("lib/python3*/site-packages/*.dist-info"), *VENV.glob("Lib/site-packages/*.dist-info")]


def _tells_figures() -> bool:
    """Whether this pip can print the bytes it has fetched; the ones that older Pythons bring along cannot."""
    return [int(part) for part in re.findall(r"\d+", installed_version("pip"))] >= [24, 1]


def _plain(name: str) -> str:
    """Package names as the index compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()
