"""The studio in the desktop's menu: Linux' for real, Windows' and macOS' as far as Linux can pretend them."""

from __future__ import annotations

import json
import os
import plistlib
import re
import shlex
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.setup import shortcut
from glmstudio.setup.messages import Stop
from tests.light_modules import ROOT
from tests.other_system import Seen

LAUNCHER = str(ROOT / "launcher.py")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's desktop looks for programs and icons."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return tmp_path / ".local" / "share"


def value(file: Path, key: str) -> str:
    (line,) = [each for each in file.read_text(encoding="utf-8").splitlines() if each.startswith(f"{key}=")]
    return unescaped(line.partition("=")[2])


def unescaped(text: str) -> str:
    """A string of a .desktop file, as freedesktop.org's specification reads it."""
    return re.sub(r"\\(.)", lambda found: {"s": " ", "n": "\n", "t": "\t", "r": "\r"}.get(found[1], found[1]), text)


def arguments(command: str) -> list[str]:
    """The words of an `Exec` whose arguments are all quoted, as the specification reads them."""
    words = re.findall(r'"((?:[^"\\`$]|\\.)*)"', command)
    assert " ".join(f'"{word}"' for word in words) == command
    return [re.sub(r"\\(.)", r"\1", word).replace("%%", "%") for word in words]


def test_on_linux_it_is_put_there_and_taken_out(data: Path) -> None:
    file, icon = data / "applications" / "glm-studio.desktop", data / "icons/hicolor/scalable/apps/glm-studio.svg"
    for _ in range(2):
        assert shortcut.install() == f"GLM Studio is now in the desktop's menu: {file}"
    assert arguments(value(file, "Exec")) == [shortcut._python(), LAUNCHER, "--window"]
    assert value(file, "Path") == str(ROOT)
    assert value(file, "Icon") == icon.stem
    assert icon.read_bytes() == (ROOT / "glmstudio/ui/shell/icon.svg").read_bytes()
    if judge := shutil.which("desktop-file-validate"):
        assert subprocess.run([judge, file], capture_output=True, text=True).stdout == ""
    assert shortcut.remove() == f"GLM Studio is no longer in the desktop's menu: {file}"
    assert [each for each in data.rglob("*") if each.is_file()] == []
    with pytest.raises(Stop, match="is not in the desktop's menu"):
        shortcut.remove()


def test_what_is_not_ours_is_left_alone(data: Path) -> None:
    file, icon = data / "applications" / "glm-studio.desktop", data / "icons/hicolor/scalable/apps/glm-studio.svg"
    for each in (file, icon):
        each.parent.mkdir(parents=True)
        each.write_text("somebody's")
    with pytest.raises(Stop, match="was not made by GLM Studio"):
        shortcut.install()
    with pytest.raises(Stop, match="is not in the desktop's menu"):
        shortcut.remove()
    assert file.read_text() == "somebody's"
    file.unlink()
    shortcut.install()
    assert value(file, "Icon") == str(ROOT / "glmstudio/ui/shell/icon.svg")
    shortcut.remove()
    assert icon.read_text() == "somebody's"


def test_of_two_studios_the_second_says_whose_it_is(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "another studio"
    other.mkdir()
    (other / "launcher.py").touch()
    file = data / "applications" / "glm-studio.desktop"
    shortcut.install()
    file.write_text(file.read_text().replace(str(ROOT), str(other)))
    with pytest.raises(Stop, match=re.escape(f"{file} starts the GLM Studio in {other}.")):
        shortcut.install()
    with pytest.raises(Stop, match="is not in the desktop's menu"):
        shortcut.remove()
    (other / "launcher.py").unlink()
    shortcut.install()
    assert value(file, "Path") == str(ROOT)


@given(st.text(st.characters(min_codepoint=32, exclude_categories=("Cs",)), min_size=1))
def test_every_path_survives_the_file(path: str) -> None:
    assert arguments(unescaped(shortcut._escaped(shortcut._quoted(path)))) == [path]
    assert unescaped(shortcut._escaped(path)) == path


def on(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the shortcut takes this machine for one of that system."""
    monkeypatch.setattr(shortcut, "sys", Seen(sys, platform=system))


def test_on_macos_it_is_an_application(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on("darwin", monkeypatch)
    app = tmp_path / "Applications" / "GLM Studio.app"
    for _ in range(2):
        assert shortcut.install().endswith(f": {app}")
    told = plistlib.loads((app / "Contents/Info.plist").read_bytes())
    assert told["GLMStudioFolder"] == str(ROOT)
    assert os.access(app / "Contents/MacOS" / told["CFBundleExecutable"], os.X_OK)
    start = (app / "Contents/Resources/start.command").read_text().splitlines()
    assert shlex.split(start[1])[-3:] == [shortcut._python(), LAUNCHER, "--window"]
    icon = (app / "Contents/Resources" / told["CFBundleIconFile"]).read_bytes()
    assert (icon[:4], struct.unpack(">I", icon[4:8])[0], icon[8:12]) == (b"icns", len(icon), b"ic08")
    assert icon[16:].startswith(b"\x89PNG\r\n")
    (app / "Contents" / "theirs").touch()
    shortcut.remove()
    assert [each.name for each in app.rglob("*") if each.is_file()] == ["theirs"]
    with pytest.raises(Stop, match="was not made by GLM Studio"):
        shortcut.install()
    shutil.rmtree(app)
    shortcut.install()
    shortcut.remove()
    assert not app.exists()


def test_on_windows_the_script_host_makes_a_link(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script host is pretended: it keeps what it was given beside the link, and reads it back."""
    on("win32", monkeypatch)
    host = tmp_path / "bin" / "powershell"
    host.parent.mkdir()
    host.write_text(
        f"#!{sys.executable} -S\n"
        "import json, os, sys\n"
        "given = {name: each for name, each in os.environ.items() if name.startswith('GLM_')}\n"
        "if '$link.Save()' in sys.argv[-1]:\n"
        "    json.dump(given, open(given['GLM_LINK'], 'w'))\n"
        "else:\n"
        "    kept = json.load(open(given['GLM_LINK']))\n"
        "    print(kept['GLM_ARGUMENTS'], kept['GLM_FOLDER'], sep='\\n')\n"
    )
    host.chmod(0o755)
    monkeypatch.setenv("APPDATA", str(tmp_path / "Roaming"))
    monkeypatch.setenv("PATH", str(host.parent), prepend=os.pathsep)
    link = tmp_path / "Roaming" / "Microsoft" / "Windows" / "Start Menu" / "Programs" / "GLM Studio.lnk"
    for _ in range(2):
        assert shortcut.install() == f"GLM Studio is now in the desktop's menu: {link}"
    told = json.loads(link.read_text())
    assert (told["GLM_PYTHON"], told["GLM_ARGUMENTS"]) == (shortcut._python(), f'"{LAUNCHER}" --window')
    assert Path(told["GLM_ICON"]).read_bytes()[22:].startswith(b"\x89PNG\r\n")
    link.write_text(json.dumps(told | {"GLM_ARGUMENTS": "-m other"}))
    for change in (shortcut.install, shortcut.remove):
        with pytest.raises(Stop):
            change()
    link.write_text(json.dumps(told))
    shortcut.remove()
    assert not link.exists()


def test_the_launcher_needs_no_environment_for_it(data: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "glmstudio" / "setup", tmp_path / "clone/glmstudio/setup")
    shutil.copy(ROOT / "glmstudio/__init__.py", tmp_path / "clone/glmstudio")
    (tmp_path / "clone/glmstudio/ui/shell").mkdir(parents=True)
    shutil.copy(ROOT / "glmstudio/ui/shell/icon.svg", tmp_path / "clone/glmstudio/ui/shell")
    shutil.copy(LAUNCHER, tmp_path / "clone")
    done = subprocess.run(
        [shortcut._python(), "-S", tmp_path / "clone/launcher.py", "--install-shortcut"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    file = data / "applications" / "glm-studio.desktop"
    assert arguments(value(file, "Exec"))[1] == str(tmp_path / "clone" / "launcher.py")
    assert not (tmp_path / "clone" / ".venv").exists()
