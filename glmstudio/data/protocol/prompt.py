"""ChatGLM3's conversations as token ids, for asking and for training.

A message is its role's token, then `metadata` and a newline, then the content; a sequence starts with
`[gMASK] sop`. The rules are those of the published tokenizer and of the original fine-tuning script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glmstudio.data.protocol.tokenizer import EOS, Tokenizer

IGNORED = -100
TOOL_PROMPT = "Answer the following questions as best as you can. You have access to the following tools:"
INTERPRETER = "interpreter"
TEXT = "text"  # the role of running text, which is no turn: it is learned whole, and stands alone
GOES_ON = "goes on"  # its metadata where more of its document follows
# What ChatGLM3 was trained to read where it may run code; from the original demo. No list of tools follows it.
INTERPRETER_PROMPT = (
    "你是一位智能AI助手，你叫ChatGLM，你连接着一台电脑，但请注意不能联网。在使用Python解决任务时，你可以运行代码并得到结果，"
    "如果运行结果有错误，你需要尽可能对代码进行改进。你可以处理用户上传到电脑上的文件，文件默认存储路径是/mnt/data/。"
)


@dataclass(frozen=True)
class Message:
    """One turn, or running text. `metadata` is the tool's name in an assistant's call; `trained` counts only in
    training."""

    role: str
    content: str
    metadata: str = ""
    trained: bool = False


@dataclass(frozen=True)
class Example:
    """One conversation for training: `labels[i]` is `input_ids[i]` where it is learned, else -100."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """How many tokens are learned from."""
        return sum(label != IGNORED for label in self.labels)

    def cut(self, length: int) -> Example:
        """The first `length` tokens, as the original script cuts."""
        return Example(self.input_ids[:length], self.labels[:length])


def listed_tool(tool: Any) -> dict[str, Any] | None:
    """A tool as the model reads it, whatever form somebody gave it in: name, description and parameters, in this order
    and nothing else. None where it has no name. Training data and requests to the server both pass through here."""
    if isinstance(tool, dict) and tool.get("type") == "code_interpreter":
        return {"name": INTERPRETER, "description": "", "parameters": {}}
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    listed = {"name": function["name"], "description": function.get("description") or ""}
    return listed | {"parameters": function.get("parameters") or {"type": "object", "properties": {}}}


def tools_intro(system: Sequence[str], tools: Sequence[Any]) -> str:
    """What stands before the list of tools: the system texts of the conversation, then the fixed sentence."""
    alone = len(tools) == 1 and isinstance(tools[0], dict) and tools[0].get("name") == INTERPRETER
    return "\n".join([*system, INTERPRETER_PROMPT if alone else TOOL_PROMPT])


def tools_message(tools: Any, intro: str = TOOL_PROMPT) -> Message:
    """The system message that tells the model which tools there are; `intro` is made by `tools_intro`."""
    if intro.endswith(INTERPRETER_PROMPT):
        return Message("system", intro)
    return Message("system", f"{intro}\n{json.dumps(tools, indent=4, ensure_ascii=False)}")


def is_text(messages: Sequence[Message]) -> bool:
    """Whether all of it is whole characters: JSON can escape half of one, which no tokenizer takes."""
    try:
        "".join(message.metadata + message.content for message in messages).encode()
    except UnicodeEncodeError:
        return False
    return True


def chat_ids(tokenizer: Tokenizer, messages: Sequence[Message], opening: Sequence[int] = ()) -> list[int]:
    """The prompt for the assistant's next message: all messages, then the bare assistant token.

    `opening` are ids that stand before the messages, as `opening_of` a conversation; else the two of a beginning.
    """
    ids = list(opening) or tokenizer.start
    for message in messages:
        ids += _message_ids(tokenizer, message)
    return [*ids, tokenizer.special["<|assistant|>"]]


def opening_of(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """What stands before the first turn of the user: tools and system text, with the two ids of a beginning."""
    user = tokenizer.special["<|user|>"]
    return list(ids[: ids.index(user)]) if user in ids else tokenizer.start


def training_example(tokenizer: Tokenizer, messages: Sequence[Message]) -> Example:
    """A conversation with its labels.

    Learned is what a trained message says after its role token, and the token that ends it: the next role, or
    the end of the text after the last message.
    """
    ids, learned, _ = spelled(tokenizer, messages)
    return Example(ids, [token if yes else IGNORED for token, yes in zip(ids, learned, strict=True)])


def spelled(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[bool], list[int]]:
    """A conversation's ids, whether each of them is learned, and where each message ends: the place of what ends it."""
    ids = tokenizer.start
    if messages and messages[0].role == TEXT:
        ids += _text_ids(tokenizer, messages[0])
        return ids, [at >= 2 for at in range(len(ids))], [len(ids) - 1]
    learned = [False] * (len(ids) + 1)  # learned[i]: whether the token at i is a label
    ends = []
    for message in messages:
        tokens = _message_ids(tokenizer, message)
        ids += tokens
        learned += [message.trained] * len(tokens)
        ends.append(len(ids))
    ids.append(EOS)
    return ids, learned, ends


def _text_ids(tokenizer: Tokenizer, message: Message) -> list[int]:
    """As the base model was trained on texts; one that goes on has no end."""
    return tokenizer.encode(message.content) + ([] if message.metadata == GOES_ON else [EOS])


def _message_ids(tokenizer: Tokenizer, message: Message) -> list[int]:
    role = tokenizer.special[f"<|{message.role}|>"]
    return [role, *tokenizer.encode(f"{message.metadata}\n"), *tokenizer.encode(message.content)]
