"""The studio in the desktop's menu: put there and taken out again, each system in its own way. Standard library only.

Nothing is ever overwritten or removed that does not say that it is the entry of this folder.
"""

from __future__ import annotations

import os
import plistlib
import shlex
import struct
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from glmstudio.setup.messages import Stop, say
from glmstudio.setup.state import ROOT

NAME = "GLM Studio"
_LAUNCHER = ROOT / "launcher.py"
_ICON = Path(__file__).parent / "icon.ico"
_ICO_HEADER = 22  # bytes of the .ico before its only picture, a PNG of 256 pixels
_SVG = ROOT / "glmstudio" / "ui" / "shell" / "icon.svg"
_MARK = "X-GLMStudio-Folder"  # in a .desktop file


class MenuEntry(Protocol):
    """An entry of the menu; `place` is what a person can look for."""

    place: Path

    def owner(self) -> str | None:
        """The folder of the studio that it starts; "" where it is somebody else's, None where there is none."""

    def write(self) -> None:
        """Put it there."""

    def remove(self) -> None:
        """Take it away."""


def install() -> str:
    """Put the entry into the menu; returns the sentence that says where. Raises Stop."""
    entry = _entry()
    owner = entry.owner()
    if owner == "":
        raise Stop(say("shortcut_taken", place=entry.place))
    # The entry of a folder that is gone is nobody's.
    if owner and owner != str(ROOT) and Path(owner, "launcher.py").is_file():
        raise Stop(say("shortcut_other", place=entry.place, folder=owner))
    if any(each < " " for each in f"{ROOT}{_python()}"):
        raise Stop(say("shortcut_failed", hint=repr(str(ROOT))))
    try:
        entry.write()
    except (OSError, subprocess.SubprocessError) as error:
        raise Stop(say("shortcut_failed", hint=error)) from error
    return say("shortcut_made", place=entry.place)


def remove() -> str:
    """Take the entry out of the menu again; returns the sentence that says so. Raises Stop."""
    entry = _entry()
    if entry.owner() != str(ROOT):
        raise Stop(say("shortcut_absent"))
    try:
        entry.remove()
    except OSError as error:
        raise Stop(say("shortcut_failed", hint=error)) from error
    return say("shortcut_removed", place=entry.place)


def _entry() -> MenuEntry:
    kinds: dict[str, type[MenuEntry]] = {"win32": StartMenu, "darwin": Application}
    return kinds.get(sys.platform, DesktopFile)()


def _python() -> str:
    """The Python that the launcher is started with; never that of .venv, which the launcher may have to make anew."""
    base: str = getattr(sys, "_base_executable", "") if sys.prefix != sys.base_prefix else ""
    return base or sys.executable


class DesktopFile:
    """Linux: a file of freedesktop.org's, and the icon in the theme that every desktop falls back to."""

    def __init__(self) -> None:
        told = Path(os.environ.get("XDG_DATA_HOME", ""))
        data = told if told.is_absolute() else Path.home() / ".local" / "share"
        self.place = data / "applications" / "glm-studio.desktop"
        self._icon = data / "icons" / "hicolor" / "scalable" / "apps" / "glm-studio.svg"

    def owner(self) -> str | None:
        """As its mark says."""
        try:
            lines = self.place.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return None
        except OSError:
            return ""
        marks = (line.partition("=")[2] for line in lines if line.startswith(f"{_MARK}="))
        return next(marks, "").replace("\\s", " ").replace("\\\\", "\\")

    def write(self) -> None:
        """The file is put in its place whole. An icon of that name that was there before is left alone."""
        icon = str(_SVG)
        if self.owner() is not None or not self._icon.exists():
            self._icon.parent.mkdir(parents=True, exist_ok=True)
            self._icon.write_bytes(_SVG.read_bytes())
            icon = "glm-studio"
        command = " ".join(map(_quoted, (_python(), str(_LAUNCHER), "--window")))
        lines = [
            "[Desktop Entry]",
            "Type=Application",
            f"Name={NAME}",
            "Comment=Fine-tune a GLM on this machine and chat with the result",
            "Comment[zh_CN]=在本机上微调 GLM，并和结果对话",
            f"Exec={_escaped(command)}",
            f"Path={_escaped(str(ROOT))}",
            f"Icon={_escaped(icon)}",
            "Terminal=true",  # it shows the address, and Ctrl+C ends the studio
            "Categories=Science;ArtificialIntelligence;",
            f"{_MARK}={_escaped(str(ROOT))}",
        ]
        self.place.parent.mkdir(parents=True, exist_ok=True)
        new = self.place.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n", encoding="utf-8")
        new.replace(self.place)

    def remove(self) -> None:
        """The file, and the icon if it is still ours."""
        self.place.unlink()
        if self._icon.is_file() and self._icon.read_bytes() == _SVG.read_bytes():
            self._icon.unlink()


class Application:
    """macOS: an application that opens a terminal, which shows the address and where Ctrl+C ends the studio."""

    def __init__(self) -> None:
        self.place = Path.home() / "Applications" / f"{NAME}.app"
        inside = self.place / "Contents"
        self._plist, self._start = inside / "Info.plist", inside / "MacOS" / "start"
        self._command, self._icon = inside / "Resources" / "start.command", inside / "Resources" / "icon.icns"

    def owner(self) -> str | None:
        """As its property list says."""
        if not self.place.exists():
            return None
        try:
            told = plistlib.loads(self._plist.read_bytes()).get("GLMStudioFolder", "")
        except (OSError, ValueError, plistlib.InvalidFileException, AttributeError):
            return ""
        return told if isinstance(told, str) else ""

    def write(self) -> None:
        """The property list comes last: without it there is no application."""
        command = shlex.join([_python(), str(_LAUNCHER), "--window"])
        for script, line in (
            (self._start, 'exec open -a Terminal "$(dirname "$0")/../Resources/start.command"'),
            (self._command, f"cd {shlex.quote(str(ROOT))} && exec {command}"),
        ):
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
            script.chmod(0o755)
        picture = _ICON.read_bytes()[_ICO_HEADER:]
        part = b"ic08" + struct.pack(">I", len(picture) + 8) + picture
        self._icon.write_bytes(b"icns" + struct.pack(">I", len(part) + 8) + part)
        told = {
            "CFBundleName": NAME,
            "CFBundleIdentifier": "glm-studio.launcher",
            "CFBundleExecutable": self._start.name,
            "CFBundleIconFile": self._icon.name,
            "CFBundlePackageType": "APPL",
            "GLMStudioFolder": str(ROOT),
        }
        self._plist.write_bytes(plistlib.dumps(told))

    def remove(self) -> None:
        """Its own files, and the folders that they leave empty."""
        for file in (self._plist, self._start, self._command, self._icon):
            file.unlink(missing_ok=True)
        for folder in (self._start.parent, self._command.parent, self._plist.parent, self.place):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


class StartMenu:
    """Windows: a link, which only Windows' own script host can write and read."""

    def __init__(self) -> None:
        told = os.environ.get("APPDATA", "")
        data = Path(told) if told else Path.home() / "AppData" / "Roaming"
        self.place = data / "Microsoft" / "Windows" / "Start Menu" / "Programs" / f"{NAME}.lnk"

    def owner(self) -> str | None:
        """The folder in which it starts a launcher."""
        if not self.place.exists():
            return None
        try:
            arguments, folder = (*self._ask("$link.Arguments; $link.WorkingDirectory").splitlines(), "", "")[:2]
        except (OSError, subprocess.SubprocessError):
            return ""
        return folder if "launcher.py" in arguments else ""

    def write(self) -> None:
        """Every value comes from the environment: no path is ever read as a piece of the script."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self._ask(
            "$link.TargetPath = $env:GLM_PYTHON; $link.Arguments = $env:GLM_ARGUMENTS; "
            "$link.IconLocation = $env:GLM_ICON; $link.WorkingDirectory = $env:GLM_FOLDER; $link.Save()"
        )

    def remove(self) -> None:
        """The link alone."""
        self.place.unlink()

    def _ask(self, script: str) -> str:
        values = {
            "GLM_LINK": str(self.place),
            "GLM_PYTHON": _python(),
            "GLM_ARGUMENTS": f'"{_LAUNCHER}" --window',
            "GLM_ICON": str(_ICON),
            "GLM_FOLDER": str(ROOT),
        }
        before = (
            "$ErrorActionPreference = 'Stop'; [Console]::OutputEncoding = [Text.Encoding]::UTF8; "
            "$link = (New-Object -ComObject WScript.Shell).CreateShortcut($env:GLM_LINK); "
        )
        return subprocess.run(
            ["powershell", "-NoProfile", "-NonInteractive", "-Command", before + script],
            env={**os.environ, **values},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
        ).stdout


def _quoted(argument: str) -> str:
    """An argument as the `Exec` of a .desktop file has it."""
    for mark in '\\"`$':
        argument = argument.replace(mark, f"\\{mark}")
    return '"' + argument.replace("%", "%%") + '"'


def _escaped(value: str) -> str:
    """A value as a .desktop file has it."""
    value = value.replace("\\", "\\\\")
    return f"\\s{value[1:]}" if value.startswith(" ") else value
