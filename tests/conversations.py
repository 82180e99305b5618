"""Conversations as clients send them, with everything that can go wrong in them: tools, parallel calls, nasty text."""

from __future__ import annotations

import random
from typing import Any

FRAGMENTS = (
    "people", "philosophy", "eop", "sop", "<|user|>", "[gMASK]", "[MASK]", "<sop>", "<s>", "</s>", "<|assistant|>\n", "<|endoftext|>",
    "<|user|", "你好", "世界", "北京", "  ", " ", "\n", "\t", "\r", "🙂", "𠮷", "é", "ا", "\u3000", "def f(x):\n    return x", "a", "'", '"',
    "\\", "{", "}", "```", "1234", "-1.5", "<0x0A>", "&amp;", "<b>", "city", "value",
)  # fmt: skip
_NAMES = ("get_weather", "计算", "interpreter", "a.b-c")
_ARGUMENTS = ("x", "y", "城市", "code")


def text(chance: random.Random, most: int = 8) -> str:
    """Some fragments one after the other."""
    return "".join(chance.choice(FRAGMENTS) for _ in range(chance.randint(0, most)))


def value(chance: random.Random, depth: int = 0) -> Any:
    """A value of JSON."""
    kind = chance.randint(0, 7 if depth < 3 else 5)
    if kind == 6:
        return [value(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    if kind == 7:
        return {text(chance, 3) or "k": value(chance, depth + 1) for _ in range(chance.randint(0, 3))}
    return (text(chance), chance.randint(-9999, 9999), chance.random() * 10, True, False, None)[kind]


def tool(chance: random.Random) -> dict[str, Any]:
    """A tool in one of the forms that clients send."""
    function: dict[str, Any] = {"name": chance.choice(_NAMES)}
    if chance.random() < 0.8:
        function["description"] = text(chance)
    if chance.random() < 0.8:
        about = {"type": "string", "description": text(chance)}
        function["parameters"] = {"type": "object", "properties": {chance.choice(_ARGUMENTS): about}}
    return chance.choice(
        [function, {"type": "code_interpreter"}, *[{"type": "function", "function": function} for _ in range(2)]]
    )


def conversation(chance: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Messages and tools; results come in any order, and not all of them."""
    messages: list[dict[str, Any]] = [
        {"role": chance.choice(["system", "developer"]), "content": text(chance)} for _ in range(chance.randint(0, 2))
    ]
    for _ in range(chance.randint(1, 4)):
        parts = [{"type": "text", "text": text(chance)} for _ in range(chance.randint(0, 3))]
        messages.append({"role": "user", "content": text(chance) if chance.random() < 0.8 else parts})
        while chance.random() < 0.4:
            calls = [_call(chance) for _ in range(chance.randint(1, 3))]
            said = chance.choice([None, "", text(chance)])
            messages.append({"role": "assistant", "content": said, "tool_calls": calls})
            seen = [{"role": "tool", "tool_call_id": call["id"], "content": text(chance)} for call in calls]
            seen = [each for each in seen if chance.random() < 0.9]
            chance.shuffle(seen)
            messages += seen
        if chance.random() < 0.8:
            messages.append({"role": "assistant", "content": text(chance)})
    return messages, [tool(chance) for _ in range(chance.choice([0, 0, 1, 2, 3]))]


def _call(chance: random.Random) -> dict[str, Any]:
    arguments = {chance.choice(_ARGUMENTS): value(chance) for _ in range(chance.randint(0, 3))}
    function = {"name": chance.choice(_NAMES), "arguments": arguments}
    return {"id": f"call {chance.random()}", "type": "function", "function": function}
