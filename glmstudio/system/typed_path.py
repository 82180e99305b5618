"""What a person types or pastes for a path: in quotes, as `file://`, and inside Windows' Linux as Windows has it."""

from __future__ import annotations

import configparser
import os
import re
import string
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from glmstudio.system.environment import in_wsl

_QUOTES = "\"'“”‘’「」"
_DRIVE = re.compile(r"([A-Za-z]):(?:[\\/](.*))?", re.DOTALL)
_SHARE = re.compile(r"[\\/]{2}(?:wsl\$|wsl\.localhost)[\\/]([^\\/]+)(?:[\\/](.*))?", re.DOTALL | re.IGNORECASE)
_LONG = "\\\\?\\"  # before a path of more than 260 characters
_SETTINGS = Path("/etc/wsl.conf")


def bare_path(text: str) -> str:
    """The path without what came along with it; empty where there was nothing else."""
    told = text.strip(_QUOTES + string.whitespace)
    if told.lower().startswith("file:"):
        told = _of_address(told)
    return told.removeprefix(_LONG)


def from_windows(path: str) -> str | None:
    """A path of Windows as this system has it; empty where it leads nowhere here, None where it is none of Windows."""
    share, drive = _SHARE.fullmatch(path), _DRIVE.fullmatch(path)
    if sys.platform == "win32" or not (share or drive or path.startswith("\\\\")):
        return None
    if not in_wsl():
        return ""
    if share:
        here = os.environ.get("WSL_DISTRO_NAME", "").lower() in ("", share[1].lower())
        return "/" + _slashes(share[2]) if here else ""
    return f"{_mounts()}{drive[1].lower()}/{_slashes(drive[2])}" if drive else ""


def _of_address(address: str) -> str:
    parts = urlsplit(address)
    path = unquote(parts.path)
    if parts.netloc.lower() not in ("", "localhost"):
        return "\\\\" + parts.netloc + path.replace("/", "\\")
    return path.removeprefix("/") if _DRIVE.fullmatch(path.removeprefix("/")) else path


def _slashes(rest: str | None) -> str:
    return (rest or "").replace("\\", "/").strip("/")


def _mounts() -> str:
    """Where Windows' drives are: /mnt/, unless the settings of this Linux say otherwise."""
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        settings.read_string(_SETTINGS.read_text(encoding="utf-8"))
        root = settings.get("automount", "root", fallback="/mnt/").strip("\"' ")
    except (OSError, ValueError, configparser.Error):
        root = "/mnt/"
    return root.rstrip("/") + "/"
