"""A file of tools that is sent to the page: shown without running it, never over another one unsaid."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmstudio.errors import StudioError
from glmstudio.paths import paths
from glmstudio.tools.added_file import add_file, look_at
from glmstudio.tools.permissions import permission, set_permission
from glmstudio.tools.toolbox import toolbox
from glmstudio.ui.chat.chat_tools import act_tool_file, render_tool_file, take_tool_file
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state import uploads
from glmstudio.ui.state.page_state import ChatState

CODE = '''
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
NEEDS = ["network"]
def weather(city: str, days: int = 1) -> str:
    """Tells the <b>weather</b>."""
'''


def sent(name: str, code: str = CODE) -> Path:
    folder = uploads.folder() / "given"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(code)
    return folder / name


def test_a_file_is_shown_then_added_and_asks_first(home: Path) -> None:
    file = sent("weather.py")
    chat = take_tool_file(ChatState(), str(file))
    shown = render_tool_file("en", chat)
    assert "weather(city: string, days: integer = …)" in shown
    assert "They may use the network." in shown
    assert "<b>" not in shown
    assert "weather" not in toolbox().tools
    chat = act_tool_file(chat, {"act": "tool-add"})
    assert (chat.tool_file, chat.told) == ("", ("ui.chat.tool_added", {"file": "weather.py"}))
    assert permission(toolbox().tools["weather"]) == "ask"
    assert not file.exists()
    assert not list(home.rglob("ran"))
    assert "tool-add" not in render_tool_file("en", chat)


def test_a_file_of_that_name_is_replaced_only_by_its_own_button(home: Path) -> None:
    add_file(sent("weather.py"))
    set_permission(toolbox().tools["weather"], "always")
    other = CODE.replace("Tells", "Sends")
    chat = take_tool_file(ChatState(), str(sent("weather.py", other)))
    clear_caches()
    assert "There is already a file named weather.py" in render_tool_file("en", chat)
    refused = act_tool_file(chat, {"act": "tool-add"})
    assert refused.problem is not None
    assert refused.problem.key == "tools.file_there"
    assert (paths().tools / "weather.py").read_text() == CODE
    act_tool_file(chat, {"act": "tool-replace"})
    assert (paths().tools / "weather.py").read_text() == other
    assert permission(toolbox().tools["weather"]) == "ask"  # what was allowed was another code


def test_a_file_that_is_left_leaves_nothing(home: Path) -> None:
    file = sent("weather.py")
    assert act_tool_file(take_tool_file(ChatState(), str(file)), {"act": "tool-leave"}) == ChatState()
    assert not file.exists()
    assert not (paths().tools / "weather.py").exists()


@pytest.mark.parametrize(
    ("name", "code", "key"),
    [
        ("bad.py", "def (", "tools.syntax"),
        ("bad.py", "x = 1", "tools.no_function"),
        ("bad.py", "#" * 1_000_001, "tools.too_large"),
        ("bad.py", CODE.replace("weather(", "calculator("), "tools.taken"),
        ("bad.txt", CODE, "tools.odd_name"),
        (".bad.py", CODE, "tools.odd_name"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_before_it_is_shown(home: Path, name: str, code: str, key: str) -> None:
    file = sent(name, code)
    chat = take_tool_file(ChatState(), str(file))
    assert chat.problem is not None
    assert (chat.problem.key, chat.tool_file, file.exists()) == (key, "", False)


def test_a_link_is_no_file_of_tools(home: Path, tmp_path: Path) -> None:
    (tmp_path / "there.py").write_text(CODE)
    uploads.folder().mkdir(parents=True)
    link = uploads.folder() / "weather.py"
    link.symlink_to(tmp_path / "there.py")
    with pytest.raises(StudioError):
        look_at(link)
