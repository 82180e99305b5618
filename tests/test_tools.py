"""The built-in tools: right answers, and nothing that a model can write does harm."""

from __future__ import annotations

import re
from typing import Any

import pytest

from glmstudio.tools.call import direct
from glmstudio.tools.city_time_zones import CITIES, ZONES
from glmstudio.tools.tool_error import ToolError
from glmstudio.tools.toolbox import trained
from tests.waiting import not_for_ever

TOOLS = trained()


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("calculator", {"expression": "37*12"}, "444"),
        ("calculator", {"expression": "(2 + 3) * -4 / 8"}, "-2.5"),
        ("calculator", {"expression": "7//2 + 7%4 + 2**10"}, "1030"),
        ("calculator", {"expression": "6×7÷2"}, "21"),
        ("convert_unit", {"value": 5, "from_unit": "km", "to_unit": "mile"}, "3.107"),
        ("convert_unit", {"value": 100, "from_unit": "celsius", "to_unit": "fahrenheit"}, "212"),
        ("convert_unit", {"value": 212, "from_unit": "fahrenheit", "to_unit": "celsius"}, "100"),
        ("count_letters", {"text": "planet"}, "6"),
        ("count_letters", {"text": "北京, ok 1"}, "4"),
    ],
)
def test_answers(name: str, arguments: dict[str, Any], answer: str) -> None:
    assert direct(TOOLS[name], arguments) == answer


def test_a_timer_says_when_it_is_over() -> None:
    assert re.fullmatch(r"\d\d:\d\d", direct(TOOLS["set_timer"], {"value": 25}))


@pytest.mark.parametrize("city", ["Paris", "paris", "São Paulo", "New York", "北京", "旧金山"])
def test_the_time_is_a_time(city: str) -> None:
    assert re.fullmatch(r"\d\d:\d\d", direct(TOOLS["get_time"], {"city": city}))


def test_every_city_has_a_zone_that_exists() -> None:
    from zoneinfo import ZoneInfo

    assert len(CITIES) > 90
    assert {str(ZoneInfo(zone)) for zone in ZONES.values()} == set(ZONES.values())


def test_dice_are_within_their_sides() -> None:
    rolls = [int(roll) for _ in range(50) for roll in direct(TOOLS["roll_dice"], {"count": 5, "sides": 6}).split(", ")]
    assert set(rolls) <= set(range(1, 7))
    assert len(set(rolls)) > 1


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("calculator", {"expression": "1/0"}, "Division by zero."),
        ("calculator", {"expression": "9**9**9"}, "The result is too large."),
        ("calculator", {"expression": "(-8)**0.5"}, "The result is not a real number."),
        ("calculator", {"expression": "__import__('os')"}, "Only numbers, + - * / // % ** and parentheses can be worked out."),
        ("calculator", {"expression": "1e308*10"}, "The result is too large."),
        ("calculator", {"expression": "1+" * 300}, "The expression is too long."),
        ("calculator", {"expression": "1 +"}, "This is not an arithmetic expression."),
        ("calculator", {"expression": 5}, "The argument expression of calculator must be of type string."),
        ("calculator", {}, "calculator needs the argument expression."),
        ("calculator", {"expression": "1", "x": 1}, "calculator has no argument x."),
        ("get_time", {"city": "Atlantis"}, "The time zone of Atlantis is not known."),
        ("convert_unit", {"value": 1, "from_unit": "km", "to_unit": "kg"}, "km cannot be turned into kg."),
        ("convert_unit", {"value": True, "from_unit": "km", "to_unit": "m"}, "The argument value of convert_unit must be of type number."),
        ("set_timer", {"value": 0}, "Set 1 to 1440 minutes."),
        ("roll_dice", {"count": 10**9, "sides": 6}, "Roll 1 to 20 dice with 2 to 1000 sides."),
    ],
)  # fmt: skip
def test_refusals(name: str, arguments: dict[str, Any], words: str) -> None:
    with not_for_ever(), pytest.raises(ToolError) as caught:
        direct(TOOLS[name], arguments)
    assert str(caught.value) == words


def test_schemas_are_what_the_prompt_shows() -> None:
    assert TOOLS["get_time"].schema == {
        "name": "get_time",
        "description": "Tells the time of day in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    assert all(tool.title(lang) and tool.about(lang) for tool in TOOLS.values() for lang in ("en", "zh"))
