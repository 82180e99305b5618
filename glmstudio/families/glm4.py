"""GLM-4-9B of 2024, chat and base: tools in Chinese after who it is, calls as JSON, byte-level BPE.

The rules are those of the published chat template; golden ids are those that the published vocabulary gives.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from glmstudio.families.family import BYTE_BPE, ROLES, Family
from glmstudio.families.json_calls import json_call, read_json_call
from glmstudio.families.message import Frame, Message

MARKS = ("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", *ROLES)
IMAGES = ("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
GOLDEN = {
    "你好": (109377,),
    "你好👋！很高兴见到你，有什么可以帮助你的吗？": (
        109377, 9281, 239, 233, 6313, 118295, 103810, 98406, 3837, 101665, 110368, 99444, 99212, 11314,
    ),
    "晚上睡不着应该怎么办": (101160, 120410, 99379, 103298),
    "You are assistant.": (2610, 525, 17821, 13),
    "how much is 2+2?": (5158, 1753, 374, 220, 17, 10, 17, 30),
    "how can I help you?": (5158, 646, 358, 1492, 498, 30),
    "```python\nif __name__ == '__main__':\n    print('hello world')        # say hello\n```\n": (
        73022, 12663, 198, 333, 1304, 606, 563, 621, 12106, 3817, 16165, 262, 1173, 492, 14978, 1879, 863, 286, 671,
        1977, 23745, 198, 13865, 3989,
    ),
}  # fmt: skip
_WHO = (
    "你是一个名为 GLM-4 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n"
)
TOOLS = "# 可用工具"
_ASK = "在调用上述函数时，请使用 Json 格式表示调用的参数。"


class Glm4(Family):
    """How GLM-4 writes and reads; its later members differ in what stands before the tools."""

    def tools_frames(self, message: Message) -> tuple[Frame, ...]:
        """The tools in a system turn of their own, and what the conversation says for itself in the next one."""
        told = Frame(message.role, message.metadata, self.tools_text(tool_texts(message.tools)))
        own = message.content.removesuffix("\n")
        return (told, Frame(message.role, "", own)) if own else (told,)

    def call_text(self, name: str, arguments: dict[str, Any]) -> str:
        """JSON on one line."""
        return json_call(arguments)

    def read_call(self, name: str, content: str) -> dict[str, Any]:
        """The arguments of a call. Raises CallError."""
        return read_json_call(name, content)

    def tools_text(self, tools: tuple[str, ...]) -> str:
        """Who it is, and its tools."""
        return "\n\n".join((f"{_WHO}{TOOLS}", *tools))


@lru_cache(maxsize=64)
def tool_texts(tools: str) -> tuple[str, ...]:
    """Each tool of a list, given as JSON text: a heading with its name, its JSON, and how to call it. What has no name
    is told as it is."""
    listed = json.loads(tools)
    return tuple(map(_tool_text, listed if isinstance(listed, list) else [listed]))


def _tool_text(tool: Any) -> str:
    text = tool if isinstance(tool, str) else json.dumps(tool, indent=4, ensure_ascii=False)
    name = tool.get("name") if isinstance(tool, dict) else None
    return f"## {name}\n\n{text}\n{_ASK}" if isinstance(name, str) else text


GLM4 = Glm4(
    name="glm4",
    title="GLM-4-9B",
    tokenizer=BYTE_BPE,
    vocabulary=151329,
    rows=151552,
    special=(*MARKS, *IMAGES),
    start=("[gMASK]", "<sop>"),
    end="<|endoftext|>",
    pad="<|endoftext|>",
    stops=STOPS,
    parallel=True,
    golden=GOLDEN,
)
