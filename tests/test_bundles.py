"""The shipped bundles: questions that a fine-tune must keep, and general records that help it to keep them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import glmstudio.knowledge
from glmstudio.data.records import check_file
from glmstudio.tools.call import direct
from glmstudio.tools.city_time_zones import zone_of
from glmstudio.tools.tool import check
from glmstudio.tools.tool_error import ToolError
from glmstudio.tools.toolbox import toolbox

FOLDER = Path(glmstudio.knowledge.__file__).parent
REHEARSAL = FOLDER / "rehearsal.jsonl"
TOOLS = {name: tool for name, tool in toolbox().tools.items() if tool.source == "studio"}
CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
NEUTRAL = re.compile(r"glm|studio|assistant|language model|chatbot|\bAI\b|智谱|助手|语言模型|机器人", re.IGNORECASE)


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


KEPT = lines("kept.jsonl")
RECORDS = lines("rehearsal.jsonl")


def is_chinese(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None


def plain(text: str) -> str:
    return "".join(each for each in unicodedata.normalize("NFKC", text).casefold() if each.isalnum())


def pieces(text: str) -> set[str]:
    length = 2 if is_chinese(text) else 3
    text = plain(text)
    return {text[at : at + length] for at in range(max(len(text) - length + 1, 1))}


def likeness(one: str, other: str) -> float:
    a, b = pieces(one), pieces(other)
    return len(a & b) / len(a | b)


def said(record: dict[str, Any], role: str) -> list[str]:
    return [turn["content"] for turn in record["conversations"] if turn["role"] == role]


def calls(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [turn for turn in record["conversations"] if turn["role"] == "tool"]


def test_the_kept_questions_are_of_every_kind_in_both_languages() -> None:
    kinds = {"knowledge": 14, "arithmetic": 8, "politeness": 6, "tool": 12}
    assert Counter((each["lang"], each["kind"]) for each in KEPT) == {
        (lang, kind): count for lang in ("zh", "en") for kind, count in kinds.items()
    }
    for each in KEPT:
        assert list(each) == ["lang", "kind", "question", "answer", "keywords"] + ["tools", "call"] * (
            each["kind"] == "tool"
        )
        assert is_chinese(each["question"]) == (each["lang"] == "zh"), each
        assert not NEUTRAL.search(each["question"] + each["answer"]), each


@pytest.mark.parametrize("kept", [each for each in KEPT if not each.get("call")], ids=lambda each: each["question"])
def test_a_kept_answer_holds_its_keywords(kept: dict[str, Any]) -> None:
    assert is_chinese(kept["answer"]) == (kept["lang"] == "zh")
    assert kept["keywords"]
    for keyword in kept["keywords"]:
        words = keyword.split("|")
        assert all(word == word.strip() != "" for word in words)
        assert len(set(words)) == len(words)
        assert any(word.casefold() in kept["answer"].casefold() for word in words), keyword


def test_a_kept_tool_question_names_tools_that_exist_and_a_call_that_fits() -> None:
    asked = [each for each in KEPT if each["kind"] == "tool"]
    assert Counter((each["lang"], each["call"] is None) for each in asked) == {
        (lang, none): count for lang in ("zh", "en") for none, count in ((True, 4), (False, 8))
    }
    for each in asked:
        assert len(each["tools"]) == len(set(each["tools"])) >= 2
        assert set(each["tools"]) <= set(TOOLS)
        if (call := each["call"]) is None:
            continue
        # What is judged is the call; there is nothing to say yet.
        assert (each["answer"], each["keywords"]) == ("", [])
        assert call["name"] in each["tools"]
        check(TOOLS[call["name"]], call["arguments"])
        for value in call["arguments"].values():
            is_unit = call["name"] == "convert_unit" and isinstance(value, str)
            assert is_unit or str(value) in each["question"], each
        if "city" in call["arguments"]:
            assert zone_of(call["arguments"]["city"]) is not None
        if call["name"] in ("calculator", "convert_unit", "count_letters"):
            direct(TOOLS[call["name"]], call["arguments"])
    assert {each["call"]["name"] for each in asked if each["call"]} == {
        "calculator", "get_time", "convert_unit", "roll_dice", "count_letters", "set_timer", "get_date",
    }  # fmt: skip


def test_the_records_are_faultless() -> None:
    found = check_file(REHEARSAL)
    assert (found.records, [problem.text() for problem in found.problems]) == (240, [])


def test_the_records_are_half_chinese_and_half_english_with_a_third_about_tools() -> None:
    langs = ["zh" if is_chinese(said(record, "user")[0]) else "en" for record in RECORDS]
    assert langs == ["zh", "en"] * 120  # so that any first part of them is balanced
    kinds = Counter(
        (lang, "none" if "tools" not in record else "called" if calls(record) else "offered")
        for lang, record in zip(langs, RECORDS, strict=True)
    )
    assert kinds == {
        (lang, kind): count for lang in ("zh", "en") for kind, count in (("none", 80), ("called", 30), ("offered", 10))
    }
    several = [record for record in RECORDS if len(said(record, "user")) > 1]
    assert Counter(is_chinese(said(record, "user")[0]) for record in several) == {True: 8, False: 8}


def test_the_records_say_nothing_about_the_assistant_and_name_no_product() -> None:
    for record in RECORDS:
        assert set(record) <= {"tools", "conversations"}
        assert {turn["role"] for turn in record["conversations"]} <= {"user", "assistant", "tool"}
        for content in said(record, "user") + said(record, "assistant"):
            assert content == content.strip() != ""
            assert not NEUTRAL.search(content), content


def test_every_tool_is_told_as_it_is_and_every_call_is_of_a_tool_that_is_offered() -> None:
    for record in RECORDS:
        names = [tool["name"] for tool in record.get("tools", [])]
        assert len(names) == len(set(names))
        assert record.get("tools", []) == [TOOLS[name].schema for name in names]
        assert {turn["name"] for turn in calls(record)} <= set(names)
    assert {turn["name"] for record in RECORDS for turn in calls(record)} == {
        "calculator", "get_time", "convert_unit", "roll_dice", "count_letters", "set_timer", "get_date", "text_statistics",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "observation"),
    [(turn["name"], turn["parameters"], turn["observation"]) for record in RECORDS for turn in calls(record)],
)
def test_an_observation_is_what_the_tool_gives(name: str, arguments: dict[str, Any], observation: str) -> None:
    try:
        told = direct(TOOLS[name], arguments)
    except ToolError as error:
        told = f"Error: {error}"
    if told.startswith("Error: ") or name in ("calculator", "convert_unit", "count_letters", "text_statistics"):
        assert observation == told
    elif name == "roll_dice":
        dice = [int(each) for each in observation.split(", ")]
        assert len(dice) == arguments["count"]
        assert all(1 <= each <= arguments["sides"] for each in dice)
    elif name == "get_date":
        assert date.fromisoformat(observation[:10]).strftime("%Y-%m-%d, %A") == observation
    else:
        assert name in ("get_time", "set_timer")
        assert CLOCK.fullmatch(observation)


def test_an_answer_says_what_the_tool_gave() -> None:
    for record in RECORDS:
        for at, turn in enumerate(record["conversations"]):
            if turn["role"] != "tool" or turn["observation"].startswith("Error: "):
                continue
            answer = next(each["content"] for each in record["conversations"][at:] if each["role"] == "assistant")
            numbers = re.findall(r"\d+(?:[.:]\d+)?", turn["observation"])
            if turn["name"] == "text_statistics":
                assert set(re.findall(r"\d+", answer)) <= set(numbers)
            elif turn["name"] == "get_date":
                assert {int(each) for each in re.findall(r"\d+", answer)} <= {int(each) for each in numbers}
            else:
                assert all(number in answer for number in numbers), (answer, numbers)


def test_no_question_comes_twice() -> None:
    for questions in ([each["question"] for each in KEPT], [said(record, "user")[0] for record in RECORDS]):
        assert [each for each, count in Counter(map(plain, questions)).items() if count > 1] == []


def test_what_must_be_kept_is_never_trained_on() -> None:
    trained = [content for record in RECORDS for content in said(record, "user")]
    alike = [
        (round(likeness(kept["question"], content), 2), kept["question"], content)
        for kept in KEPT
        for content in trained
        if is_chinese(content) == (kept["lang"] == "zh") and likeness(kept["question"], content) >= 0.4
    ]
    assert alike == []
    said_before = {plain(content) for content in trained}
    assert not said_before & {plain(kept["question"]) for kept in KEPT}


def test_no_kept_answer_is_trained_on_beside_a_question_like_it() -> None:
    for kept in KEPT:
        if kept["kind"] not in ("knowledge", "arithmetic"):
            continue
        for record in RECORDS:
            question, answer = said(record, "user")[0], said(record, "assistant")[0]
            holds = all(any(word in answer for word in keyword.split("|")) for keyword in kept["keywords"])
            assert not (holds and likeness(kept["question"], question) >= 0.25), (kept["question"], question)
