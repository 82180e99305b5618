"""ChatGLM3's tool calls for vLLM: `vllm serve FOLDER --enable-auto-tool-choice --tool-parser-plugin THIS_FILE
--tool-call-parser chatglm3`. GLM Studio writes it beside a model; it needs nothing but vLLM.

An answer is text, or a line with the name of a tool and then ```python / tool_call(name=value, ...) / ```. A thought
before a call ends with `<|assistant|>`. Values are Python's literals: they are read as such, and nothing is ever run.
"""

import ast
import importlib
import json
import re
from collections.abc import Sequence
from typing import Any

from vllm.tool_parsers.abstract_tool_parser import ToolParser, ToolParserManager


def _protocol() -> Any:
    """Where this version of vLLM keeps the messages of an answer."""
    for name in ("generate.base.protocol", "openai.engine.protocol", "openai.protocol"):
        try:
            module = importlib.import_module(f"vllm.entrypoints.{name}")
        except ImportError:
            continue
        if hasattr(module, "DeltaToolCall"):
            return module
    raise ImportError("this version of vLLM is not known to chatglm3_tool_parser.py")


_messages = _protocol()
_ENDS = ("<|user|>", "<|observation|>", "<|endoftext|>")
_END = re.compile("|".join(map(re.escape, _ENDS)))
_CALL = re.compile(
    r"(?:\A|<\|assistant\|>)[ ]*(?P<name>[^\s<>`]{1,64})[ ]*\n\s*```(?:python)?\s*(?P<call>.*?)\s*```[ ]*(?=<\||\Z)",
    re.DOTALL,
)


def _arguments(call: str) -> str | None:
    """The arguments as JSON; None where this is no call."""
    try:
        node = ast.parse(call, mode="eval").body
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tool_call"):
            return None
        if node.args or any(each.arg is None for each in node.keywords):
            return None
        values = {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}
        return json.dumps(values, ensure_ascii=False, allow_nan=False)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _offered(request: Any) -> set[str] | None:
    """The names of the tools that a request lists; None where it lists none."""
    tools = getattr(request, "tools", None)
    return {each.function.name for each in tools if getattr(each, "function", None)} if tools else None


def _read(text: str, offered: set[str] | None = None) -> tuple[str, list[tuple[str, str]]]:
    """What an answer says, and its calls: names and arguments. A name that was not offered is text."""
    text = _END.split(text, maxsplit=1)[0]
    said: list[str] = []
    calls: list[tuple[str, str]] = []
    at = 0
    for found in _CALL.finditer(text):
        code = found["call"]
        arguments = json.dumps({"code": code}) if found["name"] == "interpreter" else _arguments(code)
        if arguments is None or (offered is not None and found["name"] not in offered):
            continue
        said.append(text[at : found.start()])
        calls.append((found["name"], arguments))
        at = found.end()
    said.append(text[at:])
    return "".join(said).replace("<|assistant|>", "\n").strip(), calls


@ToolParserManager.register_module("chatglm3")
class ChatGLM3ToolParser(ToolParser):
    """Whole answers, and answers that arrive piece by piece: a call is handed on once it is whole."""

    supports_required_and_named = False  # a grammar of JSON would not be this model's format

    def __init__(self, tokenizer: Any, *more: Any, **others: Any) -> None:
        super().__init__(tokenizer, *more, **others)
        self._given = 0
        self._end_ids = {self.vocab.get(name) for name in _ENDS}

    def adjust_request(self, request: Any) -> Any:
        """Keep the special tokens: `<|assistant|>` parts a thought from its call."""
        if request.tools and request.tool_choice != "none":
            request.skip_special_tokens = False
        return request

    def extract_tool_calls(self, model_output: str, request: Any) -> Any:
        """Text and calls of a whole answer."""
        text, calls = _read(model_output, _offered(request))
        made = [
            _messages.ToolCall(type="function", function=_messages.FunctionCall(name=name, arguments=arguments))
            for name, arguments in calls
        ]
        return _messages.ExtractedToolCallInformation(tools_called=bool(made), tool_calls=made, content=text or None)

    def extract_tool_calls_streaming(  # noqa: PLR0913, PLR0917  as vLLM calls it
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
        request: Any,
    ) -> Any:
        """What is new: text as soon as it can be no call, a call once it is whole."""
        whole = _END.split(current_text, maxsplit=1)[0]
        _, calls = _read(whole, _offered(request))
        if len(calls) > self.current_tool_id + 1:
            self.current_tool_id += 1
            name, arguments = calls[self.current_tool_id]
            self.prev_tool_call_arr.append({"name": name, "arguments": json.loads(arguments)})
            self.streamed_args_for_tool.append(arguments)
            self._given = len(whole)
            function = _messages.DeltaFunctionCall(name=name, arguments=arguments)
            call = _messages.DeltaToolCall(index=self.current_tool_id, type="function", function=function)
            if not getattr(call, "id", None):
                call.id = f"call_{self.current_tool_id}_{id(call):x}"
            return _messages.DeltaMessage(tool_calls=[call])
        # Where nothing follows, what was held back is text.
        ended = whole != current_text or not self._end_ids.isdisjoint(delta_token_ids)
        if calls or (not ended and _may_call(whole)):
            return None
        shown = whole if ended else _certain(whole)
        new = shown[self._given :]
        if not self._given:
            new = new.lstrip()
        if not new:
            return None
        self._given = len(shown)
        return _messages.DeltaMessage(content=new)


def _may_call(text: str) -> bool:
    """Whether what came so far may still become a call: a name, a line break, and the fence or a part of it."""
    last = text.rpartition("<|assistant|>")[2]
    name, line, rest = last.partition("\n")
    if not line:
        return len(name.strip()) <= 64 and " " not in name.strip()
    return bool(name.strip()) and "```".startswith(rest.strip()[:3])


def _certain(text: str) -> str:
    """The text without the beginning of a special token's name at its end."""
    at = text.rfind("<")
    begins = at >= 0 and any(name.startswith(text[at:]) for name in (*_ENDS, "<|assistant|>"))
    return text[:at] if begins else text
