"""Both languages say the same things, and every error that the code can raise has its words."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

from glmstudio.errors import StudioError
from glmstudio.ui.framework.markup import problem
from glmstudio.words import LANGUAGES, say, words

PACKAGE = Path(__file__).parents[1] / "glmstudio"


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_have_the_same_keys_and_places() -> None:
    assert LANGUAGES == ("en", "zh")
    english, chinese = words("en"), words("zh")
    assert english.keys() == chinese.keys()
    assert len(english) > 200
    assert {key: placeholders(text) for key, text in english.items()} == {
        key: placeholders(text) for key, text in chinese.items()
    }


def test_no_sentence_is_empty_and_chinese_is_chinese() -> None:
    assert [key for lang in LANGUAGES for key, text in words(lang).items() if not text.strip()] == []
    assert [
        key
        for key, text in words("zh").items()
        if key.endswith((".what", ".fix", ".help", ".about"))
        and re.sub(r"\{\w+\}", "", text)  # a sentence made elsewhere
        and not any("\u4e00" <= c <= "\u9fff" for c in text)
    ] == []


def raised_keys(name: str = "StudioError") -> list[tuple[str, str]]:
    found = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                keys = [arg for arg in ast.walk(node.args[0]) if isinstance(arg, ast.Constant)] if node.args else []
                found += [(file.name, key.value) for key in keys if isinstance(key.value, str) and "." in key.value]
    return found


def test_every_error_has_its_words_and_values() -> None:
    keys = raised_keys()
    assert len(keys) > 60
    assert [key for key in keys if f"{key[1]}.what" not in words("en")] == []


def test_every_text_has_its_words_and_keys_of_commands_stay_with_them() -> None:
    keys = raised_keys("LazyText")
    assert len(keys) > 10
    whole = [key for key in keys if not key[1].startswith(".") and not key[1].endswith(".")]
    assert [key for key in whole if key[1] not in words("en")] == []
    others = [file for file in PACKAGE.rglob("*.py") if not file.is_relative_to(PACKAGE / "cli")]
    assert [
        file.name for file in others if re.search(r"""["']cli\.[a-z_]+["']""", file.read_text(encoding="utf-8"))
    ] == []


def test_an_error_survives_json_and_pickle_free_copies() -> None:
    error = StudioError("models.pointer", file="a.bin", size=134)
    again = StudioError.from_json(error.to_json())
    assert str(again) == (
        "The file a.bin is a placeholder of 134 bytes; the real one was never downloaded. "
        "Download this file, or run `git lfs pull` in its folder."
    )
    assert again.what("zh") == "文件 a.bin 只是一个 134 字节的占位文件，真正的文件从未下载。"


def test_an_unknown_key_is_an_error_of_ours() -> None:
    with pytest.raises(KeyError):
        say("en", "no.such.key")


def test_an_error_inside_an_error_speaks_the_same_language() -> None:
    inner = StudioError("presets.no_setting", name="x")
    error = StudioError("presets.wrong", source="--set", errors=(inner, inner))
    assert error.what("en") == "Some settings in --set are wrong. There is no setting x. There is no setting x."
    assert error.what("zh") == "--set 中有设置不正确。没有名为 x 的设置。 没有名为 x 的设置。"
    assert StudioError.from_json(error.to_json()).what("en") == error.what("en")


# Errors of commands that no part of the page calls, and of a start that fails before there is a page.
TERMINAL = (
    "bench.",
    "cli.",
    "chat.server.port_taken",
    "chat.port_taken",
    "chat.serve.",
    "cluster.not_listed",
    "ui.port_taken",
)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_remedies_on_the_page_name_no_flags(lang: str) -> None:
    said = words(lang)
    shown = {key: said.get(f"{key}_page", text) for key, text in said.items() if key.endswith(".fix")}
    flags = [
        (key, text)
        for key, text in shown.items()
        if not key.startswith(TERMINAL) and re.search(r"(?<!\S)`?--[a-z]", re.sub(r"`[^`-][^`]*`", "", text))
    ]
    assert flags == [], "a command in full may be copied; a flag alone is for the terminal"


def test_a_remedy_reads_otherwise_on_the_page() -> None:
    busy = StudioError("runs.device_busy", name="first")
    assert busy.fix() == "Add this one to the queue (`--queue`), or stop the other one first."
    assert busy.fix(page=True) == "Add this one to the queue, or stop the other one first."
    shown = re.sub(r"<pre hidden>.*?</pre>", "", problem("en", busy) + problem("zh", busy))  # what is copied for others
    assert "--queue" not in shown
    assert "Add this one to the queue, or stop" in shown
    assert str(busy).endswith("(`--queue`), or stop the other one first.")
