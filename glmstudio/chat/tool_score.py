"""How well a model calls tools: every decision in a file of conversations, asked of base and tuned, and compared.

A question is a conversation up to where the model has to act; what it did in the file is what is due. Four things are
counted: the right tool, the right arguments, no call where none is due, and calls that can be read at all.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from glmstudio.access.api_key import bearer
from glmstudio.chat.model_server import RunningServer
from glmstudio.data.formats import ParsedConversation, conversations
from glmstudio.data.protocol.turns import TOGETHER, is_official, record_tools
from glmstudio.data.readers.sources import source_files
from glmstudio.data.readers.values import read_values
from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.family import Family
from glmstudio.families.json_calls import read_json_call
from glmstudio.families.known import FAMILIES
from glmstudio.families.message import Message, listed_tool
from glmstudio.families.python_calls import CallError
from glmstudio.words import say

MOST = 200
_EXAMPLES = 20
_LONGEST_ANSWER = 512  # tokens


@dataclass(frozen=True)
class Act:
    """What the model does: a call (`tool` and `arguments`, None where they cannot be read), or text; nothing at all
    where the server refused the question (`unasked`)."""

    text: str = ""
    tool: str | None = None
    arguments: dict[str, Any] | None = None
    unasked: bool = False

    def shown(self) -> str:
        """As one line."""
        if self.tool is None:
            return self.text
        inside = self.text if self.arguments is None else json.dumps(self.arguments, ensure_ascii=False)
        return f"{self.tool}({inside})"


@dataclass(frozen=True)
class ToolQuestion:
    """A conversation up to where the model has to act (`messages` and `tools` in OpenAI's form), and what is `due`."""

    line: int
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    due: Act

    @property
    def asked(self) -> str:
        """The last thing that was said to the model."""
        return str(self.messages[-1].get("content") or "")


@dataclass
class ToolCounts:
    """Counts of one model. A share's two numbers: how many were right, of how many."""

    model: str
    loaded: str = ""
    right_tool: tuple[int, int] = (0, 0)
    right_arguments: tuple[int, int] = (0, 0)
    no_call: tuple[int, int] = (0, 0)
    valid_calls: tuple[int, int] = (0, 0)

    def add(self, due: Act, did: Act) -> None:
        """Count one answer."""
        if due.tool is not None:
            self.right_tool = _more(self.right_tool, did.tool == due.tool)
            self.right_arguments = _more(self.right_arguments, is_right(due, did))
        else:
            self.no_call = _more(self.no_call, is_right(due, did))
        if did.tool is not None:
            self.valid_calls = _more(self.valid_calls, did.arguments is not None)


@dataclass(frozen=True)
class Change:
    """A question that the first model and the last one answered differently well."""

    line: int
    asked: str
    due: str
    before: str
    after: str
    better: bool


@dataclass(frozen=True)
class ToolScore:
    """The marks of each model, in the order in which they were named, and examples of what changed."""

    file: str
    questions: int
    marks: list[ToolCounts]
    changes: list[Change]
    better: int
    worse: int

    def to_json(self) -> dict[str, Any]:
        """As `score --json` prints it."""
        return asdict(self)


def summary(lang: str, result: ToolScore) -> str:
    """How many questions were asked, what tuning did to them where two models were, and what all this does not say."""
    key = "chat.score.compared" if len(result.marks) > 1 else "chat.score.asked"
    said = say(lang, key, count=result.questions, better=result.better, worse=result.worse)
    counted = "calls_only" if any(each.right_tool[1] for each in result.marks) else "no_calls"
    return f"{said}{' ' if lang == 'en' else ''}{say(lang, f'chat.score.{counted}')}"


def is_right(due: Act, did: Act) -> bool:
    """Whether it is the call that is due, with its arguments, or no call where none is due."""
    if due.tool is None:
        return did.tool is None and not did.unasked
    return did.tool == due.tool and did.arguments is not None and _same(did.arguments, due.arguments)


def score(
    file: Path,
    there: RunningServer,
    *,
    count: int = MOST,
    tell: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> ToolScore:
    """Ask all models of a server up to `count` questions, without chance; `tell(done, total)` on the way.

    Raises StudioError where the file has no question or the server refuses.
    """
    marks, changes, better = [ToolCounts(model) for model in there.models], [], [0, 0]
    timeout = httpx.Timeout(600, connect=5)
    with httpx.Client(trust_env=False, timeout=timeout, headers=bearer(there.key)) as client:
        asked = list(islice(questions(file, _family(client, there.port)), count))
        if not asked:
            raise StudioError("chat.no_questions", file=str(file))
        for number, question in enumerate(asked):
            if tell is not None:
                tell(number, len(asked))
            if cancel is not None and cancel.is_set():
                break
            did = [_ask(client, there.port, question, each) for each in marks]
            for each, act in zip(marks, did, strict=True):
                each.add(question.due, act)
            before, after = is_right(question.due, did[0]), is_right(question.due, did[-1])
            if before != after:
                better[after] += 1
                changes.append(_change(question, did[0], did[-1], better=after))
    changes.sort(key=lambda each: each.better)  # what became worse is what must be seen
    answered = marks[0].right_tool[1] + marks[0].no_call[1]  # fewer than were asked for where somebody stopped it
    return ToolScore(str(file), answered, marks, changes[:_EXAMPLES], better[1], better[0])


def _family(client: httpx.Client, port: int) -> Family:
    """The family of the model behind a server, which tells it."""
    try:
        told = client.get(f"http://127.0.0.1:{port}/v1/models").json()
        name = told["data"][0]["glmstudio"]["family"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return CHATGLM3
    return FAMILIES.get(str(name), CHATGLM3)


def questions(file: Path, family: Family = CHATGLM3) -> Iterator[ToolQuestion]:
    """Every decision in the conversations of a file or folder, for a model of this family; records that cannot be used
    are left out."""
    for each in source_files(file):
        for line, value in read_values(each):
            for found in () if isinstance(value, StudioError) else conversations(value):
                if isinstance(found, ParsedConversation):
                    yield from _decisions(found, line, family)


def _decisions(found: ParsedConversation, line: int, family: Family) -> Iterator[ToolQuestion]:
    record: Any = found.record
    turns = record.get("conversations") if isinstance(record, dict) else None
    messages, listed = _opening(found, family)
    for number, turn in enumerate(turns if isinstance(turns, list) else ()):
        if not isinstance(turn, dict):
            return
        role, said = turn.get("role"), turn.get("content")
        if role == "tool" and isinstance(turn.get("name"), str) and isinstance(turn.get("parameters"), dict):
            beside = turn.get(TOGETHER, False)
            if turn.get("loss", True) and not (beside and family.parallel):
                yield ToolQuestion(line, [*messages], listed, Act("", turn["name"], turn["parameters"]))
            made = _called(turn, number, family)
            messages = _with_call(messages, made) if beside else [*messages, *made]
        elif role in ("system", "user", "assistant", "observation") and isinstance(said, str):
            follows = turns[number + 1] if isinstance(turns, list) and number + 1 < len(turns) else {}
            thought = isinstance(follows, dict) and follows.get("role") == "tool"
            if role == "assistant" and turn.get("loss", True) and messages and not thought:
                yield ToolQuestion(line, [*messages], listed, Act(said))
            messages.append({"role": role, "content": said})
        else:
            return


def _opening(found: ParsedConversation, family: Family) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What stands before the first turn: messages, and tools to offer. Asked must be what was learned, token for token,
    so tools that the server would list in other words go into the system text as the record has them."""
    record: Any = found.record
    if not isinstance(record, dict) or "tools" not in record:
        return [], []
    tools = record["tools"]
    listed = [listed_tool(tool) for tool in tools] if isinstance(tools, list) else []
    turns = record.get("conversations")
    system = any(isinstance(turn, dict) and turn.get("role") == "system" for turn in turns or ())
    learned = record_tools(record, found.system)
    frames = family.frames(learned)
    served = json.dumps(listed) == json.dumps(tools) and frames == family.frames(replace(learned, official=False))
    if not listed or system or not served:
        return [{"role": frame.role, "content": frame.content} for frame in frames], []
    messages = [{"role": "system", "content": "\n".join(found.system)}] if found.system else []
    return messages, [{"type": "function", "function": tool} for tool in listed]


def _with_call(messages: list[dict[str, Any]], both: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with one call more in the last one that calls, and its result behind the others."""
    (made, result), place = both, max(at for at, each in enumerate(messages) if "tool_calls" in each)
    calls = [*messages[place]["tool_calls"], *made["tool_calls"]]
    return [*messages[:place], messages[place] | {"tool_calls": calls}, *messages[place + 1 :], result]


def _called(turn: dict[Any, Any], number: int, family: Family) -> list[dict[str, Any]]:
    seen, name, arguments = turn.get("observation"), f"call_{number}", turn["parameters"]
    text = seen if isinstance(seen, str) else json.dumps(seen, ensure_ascii=False)
    learned = Message("assistant", "", turn["name"], arguments=arguments, official=is_official(turn))
    frames = family.frames(learned)
    # A call that the server would write in another way than it was learned goes in as the text that it is.
    same = frames == family.frames(replace(learned, official=False))
    written = json.dumps(arguments, ensure_ascii=False) if same else frames[-1].content
    function = {"name": turn["name"], "arguments": written}
    return [
        {"role": "assistant", "content": None, "tool_calls": [{"id": name, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": name, "content": text},
    ]


def _ask(client: httpx.Client, port: int, question: ToolQuestion, marks: ToolCounts) -> Act:
    body: dict[str, Any] = {
        "model": marks.model,
        "messages": question.messages,
        "temperature": 0,
        "max_tokens": _LONGEST_ANSWER,
        "user": "score",
    }
    if question.tools:
        body["tools"] = question.tools
    try:
        reply = client.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body)
        told = reply.json()
    except (httpx.HTTPError, ValueError) as error:
        raise StudioError("chat.unreachable") from error
    if reply.status_code == 400:  # too long for this model: not handled as it should be, but not the end
        return Act(unasked=True)
    if reply.status_code != 200:
        raise StudioError("chat.refused", reason=str((told.get("error") or {}).get("message", reply.status_code)))
    marks.loaded = str(told.get("system_fingerprint") or "")
    return act_of(told["choices"][0]["message"], listed=bool(question.tools))


def act_of(message: dict[str, Any], *, listed: bool = True) -> Act:
    """What an assistant's message does. Where no tools were `listed`, a call is still written in its text."""
    calls = message.get("tool_calls") or []
    if calls:
        function = calls[0]["function"]
        try:
            arguments = json.loads(function["arguments"])
        except ValueError:
            arguments = None
        return Act(function["arguments"], function["name"], arguments if isinstance(arguments, dict) else None)
    text = str(message.get("content") or "")
    name, _, rest = text.partition("\n")
    if listed or not ("tool_call(" in rest or rest.lstrip().startswith("{")):
        return Act(text)
    try:
        return Act(rest, name.strip(), read_json_call(name.strip(), rest))
    except CallError:
        return Act(rest, name.strip())


def _change(question: ToolQuestion, before: Act, after: Act, *, better: bool) -> Change:
    return Change(question.line, question.asked, question.due.shown(), before.shown(), after.shown(), better)


def _more(share: tuple[int, int], right: bool) -> tuple[int, int]:
    return share[0] + right, share[1] + 1


def _same(first: Any, second: Any) -> bool:
    """Equal as JSON: 5 and 5.0 are, 1 and true are not."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(value, second[name]) for name, value in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)
