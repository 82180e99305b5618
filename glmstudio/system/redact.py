"""A report that may be shown to strangers: no names, no secrets, no paths of a person."""

from __future__ import annotations

import contextlib
import getpass
import re
import socket
from collections.abc import Iterable
from pathlib import Path

_RULES = (
    (re.compile(r"\b(\w+://)[^/\s:@]+:[^/\s@]+@"), r"\1<secret>@"),  # user and password of a proxy
    (re.compile(r"\b(hf_|sk-|ghp_|gho_|ms-|glpat-)[A-Za-z0-9_-]{8,}"), "<secret>"),
    (
        re.compile(r"(?i)\b([\w-]*(?:token|secret|passw(?:or)?d|api[_-]?key)[\w-]*\s*[=:]\s*)[^\s\"'“”]+"),
        r"\1<secret>",
    ),
    (re.compile(r"(?i)(-[\w-]*(?:token|secret|passw(?:or)?d|key)[\w-]*\s+)[^\s\"'“”]+"), r"\1<secret>"),
    (re.compile(r"\b[0-9a-fA-F]{32,}\b"), "<secret>"),
    (re.compile(r"\bGPU-[0-9a-f]{4,}(-[0-9a-f]+)*\b"), "<gpu>"),
    (re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", re.IGNORECASE), "<address>"),
    (re.compile(r"(?<![\d.])(?!127\.)(?!0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"), "<address>"),
    (re.compile(r"(?<![\w:])(?!::1\b)(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{0,4}(?![\w:])", re.IGNORECASE), "<address>"),
    (re.compile(r"(?<![\w.<])(/[^\s/“”\"'`,;:()]+){2,}/?"), "<path>"),
    (re.compile(r"\b[A-Za-z]:\\[^\s\"'“”]+"), "<path>"),
)
_NOBODY = ("root", "user", "ubuntu", "debian", "localhost")  # nobody's secret, and words of ordinary sentences
_PUBLIC = re.compile(r"/etc/hosts|/dev/shm|/etc/security/limits\.conf|/mnt/c\b")


def redact(text: str, people: Iterable[str] = ()) -> str:
    """`text` without what tells who and where somebody is; `people` are names of users that it may hold."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\0{len(kept) - 1}\0"

    text = _PUBLIC.sub(keep, text)
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    names = _own_names() | dict.fromkeys(people, "<user>")
    for name in sorted(names, key=len, reverse=True):
        if len(name) > 2 and name not in _NOBODY:
            text = re.sub(rf"(?<![\w]){re.escape(name)}(?![\w])", names[name], text)
    return re.sub("\0(\\d+)\0", lambda match: kept[int(match[1])], text)


def _own_names() -> dict[str, str]:
    names = {socket.gethostname(): "<host>", Path.home().name: "<user>"}
    with contextlib.suppress(OSError, KeyError, ImportError):
        names[getpass.getuser()] = "<user>"
    return names
