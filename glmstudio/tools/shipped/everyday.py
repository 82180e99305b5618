"""Everyday tools: safe, offline, and the same ones that the demo model was trained on.

The demo model knows these names, descriptions and arguments word for word; `tests/test_tools.py` pins them.
"""

from __future__ import annotations

import ast
import math
import operator
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from glmstudio.tools.city_time_zones import zone_of
from glmstudio.tools.tool_error import ToolError

PERMISSION = "always"

_SECURE = random.SystemRandom()
UNITS: dict[str, tuple[str, float]] = {
    "km": ("length", 1000), "mile": ("length", 1609.344), "m": ("length", 1), "foot": ("length", 0.3048),
    "cm": ("length", 0.01), "inch": ("length", 0.0254), "kg": ("mass", 1), "pound": ("mass", 0.45359237),
    "celsius": ("temperature", 0), "fahrenheit": ("temperature", 0),
}  # fmt: skip

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_LARGEST = 10**60


def calculator(expression: str) -> str:
    """Works out an arithmetic expression.

    It knows + - * / // % ** and parentheses.
    """
    if len(expression) > 200:
        raise ToolError("The expression is too long.")
    try:
        tree = ast.parse(expression.replace("×", "*").replace("÷", "/").replace("^", "**").strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ToolError("This is not an arithmetic expression.") from error
    value = _value(tree.body)
    if isinstance(value, float):
        value = round(value, 6)
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(value)
    return str(value)


def get_time(city: str) -> str:
    """Tells the time of day in a city."""
    zone = zone_of(city)
    if zone is None:
        raise ToolError(f"The time zone of {city} is not known.")
    try:
        return datetime.now(ZoneInfo(zone)).strftime("%H:%M")
    except ZoneInfoNotFoundError as error:
        raise ToolError("This computer has no time zone data.") from error


def convert_unit(value: float, from_unit: str, to_unit: str) -> str:
    """Converts a number from one unit to another."""
    source, target = UNITS.get(from_unit), UNITS.get(to_unit)
    if source is None or target is None:
        raise ToolError(f"The units are {', '.join(UNITS)}.")
    if source[0] != target[0]:
        raise ToolError(f"{from_unit} cannot be turned into {to_unit}.")
    if source[0] == "temperature":
        result = value if from_unit == to_unit else value * 1.8 + 32 if to_unit == "fahrenheit" else (value - 32) / 1.8
    else:
        result = value * source[1] / target[1]
    if not math.isfinite(result):
        raise ToolError("The number is too large.")
    return f"{result:.4g}" if abs(result) < 1000 else f"{result:.10g}"


def roll_dice(count: int, sides: int) -> str:
    """Rolls dice."""
    if not (1 <= count <= 20 and 2 <= sides <= 1000):
        raise ToolError("Roll 1 to 20 dice with 2 to 1000 sides.")
    return ", ".join(str(_SECURE.randint(1, sides)) for _ in range(count))


def count_letters(text: str) -> str:
    """Counts the letters of a text."""
    return str(sum(character.isalpha() for character in text[:10_000]))


def set_timer(value: int) -> str:
    """Sets a timer."""
    if not 1 <= value <= 1440:
        raise ToolError("Set 1 to 1440 minutes.")
    return (datetime.now().astimezone() + timedelta(minutes=value)).strftime("%H:%M")


def _value(node: ast.expr) -> Any:
    """The number that an expression's tree stands for; nothing but numbers and operators is understood."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow):
            return _power(left, right)
        if type(node.op) in _BINARY:
            try:
                return _bounded(_BINARY[type(node.op)](left, right))
            except ZeroDivisionError as error:
                raise ToolError("Division by zero.") from error
    raise ToolError("Only numbers, + - * / // % ** and parentheses can be worked out.")


def _power(left: Any, right: Any) -> Any:
    # The size of a power is known before it is computed, so 9**9**9 costs nothing.
    if abs(right) > 1000 or (left and abs(right) * math.log10(abs(left)) > 60):
        raise ToolError("The result is too large.")
    if (left < 0 and right != int(right)) or (left == 0 and right < 0):
        raise ToolError("The result is not a real number.")
    return _bounded(left**right)


def _bounded(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ToolError("The result is too large.")
    if abs(value) > _LARGEST:
        raise ToolError("The result is too large.")
    return value
