"""Documents and texts keep to the words of docs/glossary.md: nothing in them says what its last two columns rule out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from glmstudio.files import read_toml

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TEXTS = sorted((ROOT / "glmstudio" / "text").rglob("*.toml"))
PRESETS = sorted((ROOT / "presets").rglob("*.toml"))
FILES = [*DOCUMENTS, *TEXTS, *PRESETS]

# Ruled-out words that are right in one place: the file, and text around the word. Each must still be needed.
ALLOWED: tuple[tuple[str, str], ...] = ()


class Term(NamedTuple):
    """A row of the glossary."""

    english: str
    chinese: str
    meaning: str
    not_english: tuple[str, ...]
    not_chinese: tuple[str, ...]


def listed(cell: str) -> tuple[str, ...]:
    return tuple(word for word in (each.strip() for each in cell.split(",")) if word)


def rows(text: str) -> list[list[str]]:
    """The cells of the table, without its two first lines."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def terms() -> list[Term]:
    found = rows(GLOSSARY.read_text(encoding="utf-8"))
    return [Term(each[0], each[1], each[2], listed(each[3]), listed(each[4])) for each in found]


def pattern(found: list[Term]) -> re.Pattern[str]:
    """Finds every ruled-out word: English ones whole (`fine-tuned` holds no `tuned`), Chinese ones anywhere."""
    english = sorted({word for term in found for word in term.not_english}, key=len, reverse=True)
    chinese = sorted({word for term in found for word in term.not_chinese}, key=len, reverse=True)
    whole = "|".join(r"\s+".join(map(re.escape, word.split())) for word in english)
    return re.compile(rf"(?<![\w-])(?:{whole})(?!\w)|{'|'.join(map(re.escape, chinese))}", re.IGNORECASE | re.ASCII)


RULED_OUT = pattern(terms())


def prose(file: Path) -> list[tuple[str, str]]:
    """What a file says, as places and texts."""
    if file.suffix == ".md":
        text = file.read_text(encoding="utf-8")
        if file == GLOSSARY:
            text = "\n".join(" ".join(each[:3]) for each in rows(text))
        return [("", text)]
    if file.is_relative_to(ROOT / "presets"):
        lines = file.read_text(encoding="utf-8").splitlines()
        return [(f"line {number}", line) for number, line in enumerate(lines, 1) if line.startswith("#")]
    return list(sentences(read_toml(file)))


def sentences(table: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += sentences(value, f"{before}{key}.")
        else:
            found += [(f"{before}{key}", text) for text in (value if isinstance(value, list) else [value])]
    return [(place, text) for place, text in found if isinstance(text, str)]


def bare(text: str) -> str:
    """Without code in backticks, placeholders and addresses of links, which are names and not words. Blocks of code stay:
    their comments are read, too."""
    text = re.sub(r"^ *```.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"(`+)(?!`)(?:(?!`|\n\n).)+?\1(?!`)", "`", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)|https?://\S+|\{[^{}]*\}", " ", text)


def found_in(text: str) -> list[tuple[str, str]]:
    """Each ruled-out word with what stands around it."""
    text = bare(text)
    return [
        (" ".join(each.group().split()), " ".join(text[max(0, each.start() - 40) : each.end() + 40].split()))
        for each in RULED_OUT.finditer(text)
    ]


def allowed(file: Path, around: str) -> bool:
    name = file.relative_to(ROOT).as_posix()
    return any(name == where and words in around for where, words in ALLOWED)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_it_says_no_word_that_is_ruled_out(file: Path) -> None:
    found = [
        f"{place}: {word} — … {around} …".removeprefix(": ")
        for place, text in prose(file)
        for word, around in found_in(text)
        if not allowed(file, around)
    ]
    assert not found, "docs/glossary.md has another word for:\n" + "\n".join(found)


def test_the_files_are_all_there() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in FILES}
    assert {"README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/glossary.md", "docs/runs.md"} <= names
    assert {"glmstudio/text/en/ui.toml", "glmstudio/text/zh/ui.toml", "presets/chatglm3-6b/lora.toml"} <= names
    assert all(prose(file) for file in FILES), "each of them says something"


def test_the_table_is_whole_and_does_not_contradict_itself() -> None:
    found = terms()
    assert len(found) > 50
    assert [
        each for each in rows(GLOSSARY.read_text(encoding="utf-8")) if len(each) != 5 or not each[0] or not each[1]
    ] == []
    assert len({each.english for each in found}) == len(found)
    ruled_out = {word.lower() for each in found for word in (*each.not_english, *each.not_chinese)}
    used = {word.lower() for each in found for word in (*listed(each.english), *listed(each.chinese))}
    assert ruled_out & used == set()


@pytest.mark.parametrize(
    "term", [each for each in terms() if each.not_english or each.not_chinese], ids=lambda term: term.english
)
def test_each_ruled_out_word_is_found(term: Term) -> None:
    for word in term.not_english:
        assert [each for each, _ in found_in(f"It says {word.upper()}, here.")] == [word.upper()]
        assert [each for each, _ in found_in("Two\nlines, " + "\n".join(word.split()))] == [word]
        assert found_in(f"as a name: `{word}`, {{{word}}}, [x](docs/{word}.md), x{word}x") == []
    for word in term.not_chinese:
        assert found_in(f"这里写着{word}二字")


def test_whole_words_only() -> None:
    assert found_in("A fine-tuned model, P-Tuning, discard, recommend, the presets of `_4cards`, 4cards") == []
    assert [each for each, _ in found_in("a tuned model on two cards, ``card``")] == ["tuned model", "cards"]
    assert [each for each, _ in found_in("```sh\nlauncher.py  # on a card\n```\n`runs\nof card` and `a")] == ["card"]


def test_what_is_allowed_is_still_there() -> None:
    for where, words in ALLOWED:
        assert any(words in around for _, text in prose(ROOT / where) for _, around in found_in(text)), (where, words)
