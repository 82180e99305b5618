"""Imports point one way: nothing but the model's own rooms loads torch, nothing but the page loads gradio."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.light_modules import LIGHT, ROOT


@pytest.mark.parametrize("ui", [False, True])
def test_light_modules_never_load_torch(ui: bool) -> None:
    names = [name for name in LIGHT if name.startswith("glmstudio.ui.") == ui]
    assert len(names) > 10
    banned = ["torch", "transformers"] + ([] if ui else ["gradio"])
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    assert not (loaded := [b for b in {banned!r} if b in sys.modules]), (name, loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_help_is_fast_because_it_loads_nothing() -> None:
    code = "import sys; from glmstudio.cli import _parser; _parser(); print(len(sys.modules), 'psutil' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    count, psutil = done.stdout.split()
    assert int(count) < 250
    assert psutil == "False"


def test_imports_point_one_way() -> None:
    """The contracts in `pyproject.toml`: rooms on floors, and no circle between modules or folders."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_what_the_page_knows_is_known_without_gradio() -> None:
    state = (ROOT / "glmstudio/ui/state").glob("*.py")
    gradio = re.compile(r"^\s*(import|from) gradio", re.MULTILINE)
    assert [file.name for file in state if gradio.search(file.read_text(encoding="utf-8"))] == []


UNIX = re.compile(r"fcntl|resource|termios|pwd|grp|killpg|getpgid|pwritev?|preadv?|flock|posix_fadvise")
PLACES = re.compile(r"/proc(/|$)")


def only_unix(file: Path) -> Iterator[str]:
    """The modules, functions and places of Unix that a file names."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(each.name for each in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
            names = ["/proc"] if PLACES.match(node.value) else []
        else:
            continue
        yield from (f"{node.lineno}: {name}" for name in names if name == "/proc" or UNIX.fullmatch(name))


def test_only_the_system_room_knows_unix() -> None:
    """And the set-up, which runs before there is an environment (and asks for no more than the driver's version)."""
    found = {
        f"{file.relative_to(ROOT)}:{what}"
        for file in [ROOT / "launcher.py", *(ROOT / "glmstudio").rglob("*.py")]
        if not file.is_relative_to(ROOT / "glmstudio/system")
        for what in only_unix(file)
    }
    assert {each for each in found if not each.startswith("glmstudio/setup/")} == set()
    assert {each.split(":")[0] for each in found} <= {"glmstudio/setup/state.py"}
