"""The data set on the page: said in words, drawn for light and dark, and never by colour alone."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from glmstudio.data.notes import Note
from glmstudio.data.protocol.pieces import Piece
from glmstudio.data.records import Problem
from glmstudio.errors import StudioError
from glmstudio.ui.finetune.data_view import SHOWN_NOTES, SHOWN_PROBLEMS, histogram, record, remarks, verdict
from glmstudio.words import LANGUAGES


def bad(line: int, fix: str | None = None, file: str = "/x/data.jsonl") -> Problem:
    return Problem(file, line, StudioError("data.answer_empty", number=2), fix)


def drawn(html: str) -> ET.Element:
    """The markup as a tree: every element is closed, every value escaped."""
    whole = str(html).replace(" open>", ' open="">')
    return ET.fromstring(f"<body>{whole}</body>")  # noqa: S314  our own markup


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_verdict_opens_on_the_first_bad_lines(lang: str) -> None:
    problems = [bad(line, "end" if line == 3 else None) for line in range(3, 3 + SHOWN_PROBLEMS + 2)]
    html = verdict(lang, 100, problems, 40)
    tree = drawn(html)
    lines = ["".join(item.itertext()) for item in tree.iter("li")]
    assert len(lines) == SHOWN_PROBLEMS + 1
    assert "3" in lines[0]
    assert ("can be fixed" in lines[0]) == (lang == "en")
    assert "data.jsonl" not in lines[0]
    assert str(40 - SHOWN_PROBLEMS) in lines[-1]
    assert next(tree.iter("details")).get("open") == ""
    assert "other.jsonl" in verdict(lang, 100, [bad(1), bad(2, file="/y/other.jsonl")], 2)
    assert "gs-good" in verdict(lang, 100, [], 0)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_notes_are_said_once_a_file_and_keep_nobody(lang: str) -> None:
    assert remarks(lang, ()) == ""
    notes = [Note("placeholders", "/x/a.jsonl", 1234, (1, 5), ("<NAME>", "{{author}}"))]
    tree = drawn(remarks(lang, notes))
    (line,) = ["".join(item.itertext()) for item in tree.iter("li")]
    assert all(part in line for part in ("1,234", "1, 5, …", "<NAME>, {{author}}"))
    assert "a.jsonl" not in line
    many = [Note("calls_read", f"/x/{number}.jsonl", 1, (1,)) for number in range(SHOWN_NOTES + 3)]
    lines = ["".join(item.itertext()) for item in drawn(remarks(lang, many)).iter("li")]
    assert len(lines) == SHOWN_NOTES + 1
    assert lines[0].startswith("0.jsonl")
    assert "3" in lines[-1]


def test_hostile_text_stays_text() -> None:
    reason = StudioError("data.turn_role", number=1, role="<script>{x}${y}`", roles="a")
    html = verdict("en", 1, [Problem("<b>.jsonl", 1, reason), bad(2)], 2)
    html += remarks("en", [Note("placeholders", "a", 1, (1,), ("<script>${x}",))])
    html += record("en", [Piece("</p><script>alert(1)</script>${a}", "trained")], 0, 1)
    assert "<script" not in html
    assert "<b>.jsonl" not in html
    assert "$" not in html
    assert "{" not in html


def test_the_histogram_has_a_labelled_limit() -> None:
    bars = [(0, 50, 10), (50, 100, 90), (100, 150, 0), (150, 200, 1)]
    tree = drawn(histogram("en", bars, 100))
    (svg,) = tree.iter("svg")
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == (
        "Records: 101; most have between 50 and 100 tokens. Longer than the limit of 100 tokens: 1."
    )
    assert [each.get("class") for each in tree.iter("rect")] == ["gs-within", "gs-within", "gs-over"]
    (line,) = [each for each in tree.iter("path") if each.get("class") == "gs-limit"]
    assert line.get("d") == "M336.0 12V180"  # the middle of the axis
    assert "limit 100" in ["".join(each.itertext()) for each in tree.iter("text")]
    heights = [float(str(each.get("height"))) for each in tree.iter("rect")]
    assert heights[1] == max(heights)
    assert heights[2] > 1
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb\(", histogram("en", bars, 100))
    assert [each.text for each in tree.iter("text")][3:7] == ["0", "50", "100", "150"]
    assert "gs-limit" not in histogram("en", bars)
    for right in (1, 7, 99, 100, 999, 8192, 123_456):
        assert 1 <= histogram("en", [(0, right, 1)]).count('text-anchor="middle"') <= 6
    assert "above the longest record" in histogram("en", bars, 500)
    assert histogram("en", [(0, 1, 0)], 5) == ""


def test_one_record_marks_what_is_learned_by_more_than_colour() -> None:
    pieces = [
        Piece("<|user|>", "plain", special=True), Piece("Hi", "plain", tokens=2), Piece("Yes", "trained", tokens=3),
        Piece("</s>", "cut", special=True),
    ]  # fmt: skip
    tree = drawn(record("en", pieces, 1, 3))
    (text,) = [each for each in tree.iter("p") if each.get("class") == "gs-tokens"]
    assert [(each.tag, each.get("class"), each.text) for each in text] == [
        ("span", "gs-plain gs-special", "<|user|>"), ("span", "gs-plain", "Hi"), ("u", "gs-trained", "Yes"),
        ("s", "gs-cut gs-special", "</s>"),
    ]  # fmt: skip
    assert [(each.get("data-act"), each.get("data-row")) for each in tree.iter("button")] == [
        ("record", "0"),
        ("record", "2"),
    ]
    said = "".join(tree.itertext())
    assert "Record 2 of 3" in said
    assert "Tokens: 7; trained on: 3; cut off: 1." in said
    assert "read only" in said
    assert [each.get("data-row") for each in drawn(record("zh", pieces, 0, 1)).iter("button")] == []
