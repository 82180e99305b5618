"""ChatGLM3-6B, Base and 32K: tools in English before JSON, calls as Python, a space before each text.

The rules are those of the published tokenizer and of the original fine-tuning script.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from glmstudio.families.family import ROLES, SENTENCEPIECE, Family
from glmstudio.families.message import INTERPRETER, Frame, Message
from glmstudio.families.python_calls import CallError, call_content, fenced, json_arguments, parse_call, render_call

TOOL_PROMPT = "Answer the following questions as best as you can. You have access to the following tools:"
# What ChatGLM3 was trained to read where it may run code; from the original demo. No list of tools follows it.
INTERPRETER_PROMPT = (
    "你是一位智能AI助手，你叫ChatGLM，你连接着一台电脑，但请注意不能联网。在使用Python解决任务时，你可以运行代码并得到结果，"
    "如果运行结果有错误，你需要尽可能对代码进行改进。你可以处理用户上传到电脑上的文件，文件默认存储路径是/mnt/data/。"
)


class ChatGLM3(Family):
    """How ChatGLM3 writes and reads."""

    def tools_frames(self, message: Message) -> tuple[Frame, ...]:
        """One system turn: the conversation's own texts, a fixed sentence, and the tools."""
        text = _tools_text(message.tools, official=message.official)
        return (Frame(message.role, message.metadata, message.content + text),)

    def frames(self, message: Message, *, last: bool = True) -> tuple[Frame, ...]:
        """As in every family; the original script knows no code interpreter."""
        if message.official and message.arguments is not None:
            return (Frame(message.role, message.metadata, render_call(message.arguments)),)
        return super().frames(message, last=last)

    def call_text(self, name: str, arguments: dict[str, Any]) -> str:
        """`tool_call(name=value)` in a fence; bare code for the code interpreter."""
        return call_content(name, arguments)

    def read_call(self, name: str, content: str) -> dict[str, Any]:
        """The arguments of a call; as a second form JSON is read, as other servers do. Raises CallError."""
        try:
            return parse_call(content)
        except CallError:
            if name == INTERPRETER:
                return {"code": fenced(content).strip("\n")}
            if (read := json_arguments(content)) is not None:
                return read
            raise


@lru_cache(maxsize=64)
def _tools_text(tools: str, *, official: bool) -> str:
    listed = json.loads(tools)
    alone = isinstance(listed, list) and len(listed) == 1 and isinstance(listed[0], dict)
    if alone and not official and listed[0].get("name") == INTERPRETER:
        return INTERPRETER_PROMPT
    return f"{TOOL_PROMPT}\n{json.dumps(listed, indent=4, ensure_ascii=False)}"


CHATGLM3 = ChatGLM3(
    name="chatglm3",
    title="ChatGLM3-6B",
    tokenizer=SENTENCEPIECE,
    vocabulary=64789,
    rows=65024,
    special=("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", *ROLES),
    start=("[gMASK]", "sop"),
    end="</s>",
    pad="<unk>",
    stops=("</s>", "<|user|>", "<|observation|>"),
    control={"<unk>": 0, "<s>": 1, "</s>": 2},
    newline_apart=True,
    golden={
        "你好": (36474, 54591),
        "北京今天天气怎么样?": (37536, 31869, 33071, 35367, 30987),
        "等于 2。": (30910, 36738, 30910, 30943, 31155),
        "那 2+2 呢?": (51659, 30910, 30943, 31011, 30943, 30910, 55282, 30987),
        "You are a helpful assistant. 请用中文回答。": (
            809, 383, 260, 6483, 9319, 30930, 30910, 55073, 54571, 32977, 33287, 31155,
        ),
    },
)  # fmt: skip
