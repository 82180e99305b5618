"""The tokenizer and the chat template that other programs get: token for token what the studio makes."""

from __future__ import annotations

import importlib
import json
import random
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from glmstudio.chat.openai_messages import AnswerParser, to_turns
from glmstudio.data.protocol.prompt import chat_ids, training_example
from glmstudio.data.protocol.tokenizer import EOS, Tokenizer
from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.message import Message
from glmstudio.families.python_calls import render_call
from glmstudio.files import read_json
from glmstudio.glm.exports.chat_templates import RESPONSE_TEMPLATE, chat_template
from glmstudio.glm.exports.fast_tokenizer import HIDES, fast_tokenizer
from glmstudio.glm.exports.reference_answers import CONVERSATIONS
from glmstudio.glm.exports.sentencepiece_file import read_pieces
from glmstudio.paths import DEMO
from tests.conversations import conversation, text, value
from tests.vocabulary import GOLDEN, VOCABULARY, needs_vocabulary

MODEL = DEMO / "model"
PROMPTS = GOLDEN / "prompts.json"


def theirs(folder: Path) -> PreTrainedTokenizerFast:
    """transformers' tokenizer, as an export has it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=fast_tokenizer(read_pieces(folder)),
        chat_template=chat_template(),
        response_template=RESPONSE_TEMPLATE,
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
    )


def prompt(tokenizer: PreTrainedTokenizerFast, messages: Any, tools: Any = None) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, return_dict=False))


@pytest.fixture(scope="module")
def real() -> tuple[Tokenizer, PreTrainedTokenizerFast]:
    return Tokenizer(VOCABULARY), theirs(VOCABULARY)


@pytest.fixture(scope="module")
def demo() -> tuple[Tokenizer, PreTrainedTokenizerFast]:
    return Tokenizer(MODEL), theirs(MODEL)


def texts(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    odd = [chr(each) for each in (*range(32), 127, 0x200B, 0x200D, 0x2028, 0xFEFF, 0xFFFD, 0x1F468, 0xE000)]
    found = []
    for _ in range(count):
        parts = [text(chance, 6), "".join(chr(chance.randint(0x4E00, 0x9FA5)) for _ in range(chance.randint(0, 9)))]
        parts += [
            chance.choice(odd),
            chr(
                chance.choice(
                    [chance.randint(0xA0, 0xD7FF), chance.randint(0xE000, 0xFDCF), chance.randint(0x10000, 0x10FFFF)]
                )
            ),
        ]
        chance.shuffle(parts)
        found.append("".join(parts))
    return [each for each in found if HIDES not in each]


def assert_same_ids(pair: tuple[Tokenizer, PreTrainedTokenizerFast], given: list[str]) -> None:
    """Ids in both directions, of texts in which no special token's name counts: so as the template hands them on."""
    own, other = pair
    hidden = list(other.get_added_vocab())
    for each in given:
        typed = each
        for name in hidden:
            typed = typed.replace(name, name[:-1] + HIDES + name[-1])
        ids = own.encode(each)
        assert other.backend_tokenizer.encode(typed, add_special_tokens=False).ids == ids, repr(each)
        assert other.decode(ids) == own._vocabulary._pieces.decode(ids), repr(each)


@needs_vocabulary
@pytest.mark.slow
def test_20000_texts_have_the_ids_of_sentencepiece(real: tuple[Tokenizer, PreTrainedTokenizerFast]) -> None:
    assert_same_ids(real, texts(20_000, 1))


@needs_vocabulary
def test_ordinary_words_html_and_typed_names_are_plain_text(real: tuple[Tokenizer, PreTrainedTokenizerFast]) -> None:
    own, other = real
    for each in ("people", "philosophy", "<s>bold</s>", "<unk>", "[MASK] sop eop [sMASK]", "", " ", "a  b\n\n c"):
        assert other.encode(each, add_special_tokens=False) == own.encode(each)
    assert_same_ids(real, texts(1000, 2))
    for name in CHATGLM3.special:  # what the ids are called does not count, which they are does
        assert own.special[name] == other.convert_tokens_to_ids({"sop": "<sop>", "eop": "<eop>"}.get(name, name))


def test_a_vocabulary_with_pieces_of_a_users_has_the_same_ids(demo: tuple[Tokenizer, PreTrainedTokenizerFast]) -> None:
    lines = [json.loads(line) for line in (DEMO / "sample.jsonl").read_text(encoding="utf-8").splitlines()[:200]]
    said = [turn["content"] for line in lines for turn in line["conversations"] if isinstance(turn.get("content"), str)]
    tools = [json.dumps(line["tools"], indent=4, ensure_ascii=False) for line in lines if "tools" in line]
    assert len(said) > 200
    assert_same_ids(demo, said + tools[:20] + texts(2000, 3))


@needs_vocabulary
def test_the_template_makes_the_prompts_of_the_original_code(real: tuple[Tokenizer, PreTrainedTokenizerFast]) -> None:
    _, other = real
    golden = json.loads(PROMPTS.read_text(encoding="utf-8"))
    for case in golden["chat"]:
        messages = [*case["history"], {"role": case.get("role", "user"), "content": case["query"]}]
        tools = [tool for message in messages for tool in message.pop("tools", [])]
        assert prompt(other, messages[1:] if tools else messages, tools or None) == case["input_ids"]
    for case in golden["train"]:
        turns = list(case["item"]["conversations"])
        messages = []
        for number, turn in enumerate(turns):
            if turn["role"] != "tool":
                messages.append({"role": turn["role"], "content": turn["content"]})
                continue
            seen = turn["observation"]
            call = {"id": str(number), "function": {"name": turn["name"], "arguments": turn["parameters"]}}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            result = seen if isinstance(seen, str) else json.dumps(seen, ensure_ascii=False)
            messages.append({"role": "tool", "tool_call_id": str(number), "content": result})
        tools = case["item"].get("tools")
        if isinstance(tools, list) and all(isinstance(tool, str) for tool in tools):  # transformers takes none: as text
            listed = json.dumps(tools, indent=4, ensure_ascii=False)
            messages.insert(
                0,
                {
                    "role": "system",
                    "content": f"Answer the following questions as best as you can. You have access to the following tools:\n{listed}",
                },
            )
            tools = None
        found = other.apply_chat_template(messages, tools=tools, return_dict=False)
        assert [*found, EOS] == case["input_ids"]
    assert len(golden["chat"]) + len(golden["train"]) == 10


@pytest.mark.parametrize("which", ["demo", pytest.param("real", marks=needs_vocabulary)])
def test_conversations_have_the_ids_of_our_prompts(which: str, request: pytest.FixtureRequest) -> None:
    own, other = request.getfixturevalue(which)
    chance = random.Random(11)
    for _ in range(100):
        messages, tools = conversation(chance)
        if which == "demo" and "<0x0A>" in str((messages, tools)):
            continue  # alone between two of its own pieces, that vocabulary's tokenizer takes it for a byte
        assert prompt(other, messages, tools or None) == chat_ids(own, to_turns(messages, tools)), (messages, tools)


@needs_vocabulary
@pytest.mark.slow
def test_2500_conversations(real: tuple[Tokenizer, PreTrainedTokenizerFast]) -> None:
    own, other = real
    chance = random.Random(12)
    equal = 0
    for _ in range(2500):
        messages, tools = conversation(chance)
        equal += prompt(other, messages, tools or None) == chat_ids(own, to_turns(messages, tools))
    assert equal >= 2495


def test_typed_role_names_are_their_letters(demo: tuple[Tokenizer, PreTrainedTokenizerFast]) -> None:
    own, other = demo
    for name in (*CHATGLM3.special, "<sop>", "<eop>", "<|pad|>", "<|bos|>", "<|endoftext|>"):
        said = f"{name} a{name}{name}\n{name}"
        assert prompt(other, [{"role": "user", "content": said}]) == chat_ids(own, [Message("user", said)])


def test_the_conversations_of_the_check_are_the_studios_turns() -> None:
    found = read_json(CONVERSATIONS)
    assert len(found) == 20
    for each in found:
        turns = to_turns(each["messages"], each["tools"])
        assert each["turns"] == [turn.to_json() for turn in turns]


def test_transformers_reads_answers_with_and_without_calls(demo: tuple[Tokenizer, PreTrainedTokenizerFast]) -> None:
    _, other = demo
    begun = "[gMASK]<sop><|user|>\n hi<|assistant|>"
    call = {"name": "get_weather", "arguments": {"city": "北京", "days": 3, "tags": ["a", 1]}}
    written = "get_weather\n ```python\ntool_call(city='北京', days=3, tags=[\"a\", 1])\n```<|observation|>"
    for answer, said, calls in (
        ("\n Hello, people<|user|>", "Hello, people", None),
        (written, None, [call]),
        (f"\n I look it up.<|assistant|>{written}", "I look it up.", [call]),
    ):
        found = other.parse_response(answer, prefix=begun)
        assert (found.get("content") or None) == said
        assert [each["function"] for each in found.get("tool_calls", [])] == (calls or [])


@pytest.fixture
def parser(demo: tuple[Tokenizer, PreTrainedTokenizerFast]) -> Iterator[Callable[[], Any]]:
    """vLLM's tool parser as exports have it, on stand-ins for the four classes of vLLM that it uses: vLLM itself is no part
    of the tests' environment (`tests/bench/serve_elsewhere.py` runs it)."""
    base = types.ModuleType("vllm.tool_parsers.abstract_tool_parser")
    messages = types.ModuleType("vllm.entrypoints.openai.protocol")

    class ToolParser:
        def __init__(self, tokenizer: Any) -> None:
            self.vocab, self.current_tool_id = tokenizer.get_vocab(), -1
            self.prev_tool_call_arr: list[Any] = []
            self.streamed_args_for_tool: list[str] = []

    manager = types.SimpleNamespace(register_module=lambda _: lambda made: made)
    vars(base).update(ToolParser=ToolParser, ToolParserManager=manager)
    kinds = (
        "DeltaToolCall",
        "DeltaFunctionCall",
        "DeltaMessage",
        "ToolCall",
        "FunctionCall",
        "ExtractedToolCallInformation",
    )
    for name in kinds:
        setattr(messages, name, lambda **given: types.SimpleNamespace(**{"content": None, "tool_calls": [], **given}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, base.__name__, base)
        patch.setitem(sys.modules, messages.__name__, messages)
        for name in ("vllm", "vllm.tool_parsers", "vllm.entrypoints", "vllm.entrypoints.openai"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.delitem(sys.modules, "glmstudio.glm.exports.outside.chatglm3_tool_parser", raising=False)
        made = importlib.import_module("glmstudio.glm.exports.outside.chatglm3_tool_parser")
        yield lambda: made.ChatGLM3ToolParser(demo[1])


def test_the_plugin_for_vllm_reads_what_our_server_reads(parser: Callable[[], Any]) -> None:
    chance = random.Random(31)
    for _ in range(150):
        calls = [
            {
                name: value(chance)
                for name in chance.sample(["x", "y", "from", "城市"], chance.randint(0, 3))
                if name != "from"
            }
            for _ in range(chance.randint(0, 1))
        ]
        said = chance.choice(["", "Hello, people.", "Two\nlines and more", "I look it up."])
        segments = [f"\n {said}"] if said or not calls else []
        segments += [f"get_time\n {render_call(call)}" for call in calls]
        own = AnswerParser()
        for segment in segments:
            own.push(segment)
            own.end_segment()
        wanted = [json.loads(each["function"]["arguments"]) for each in own.calls]
        if any("`" in str(call) or "<|" in str(call) for call in calls):
            continue  # a fence or a role's name inside of a value: read by our server alone
        answer = "<|assistant|>".join(segments)
        found = parser().extract_tool_calls(answer, None)
        assert (found.content or "") == own.text
        assert [json.loads(each.function.arguments) for each in found.tool_calls] == wanted
        streamed, text_now, parts = parser(), "", []
        for piece in [*(answer[at : at + 3] for at in range(0, len(answer), 3)), "<|user|>"]:
            parts.append(streamed.extract_tool_calls_streaming(text_now, text_now + piece, piece, [], [], [], None))
            text_now += piece
        parts = [part for part in parts if part is not None]
        assert "".join(part.content or "" for part in parts).strip() == own.text
        assert [json.loads(call.function.arguments) for part in parts for call in part.tool_calls] == wanted


def test_the_plugin_takes_a_tool_that_was_not_offered_for_text(parser: Callable[[], Any]) -> None:
    """As our server does: the client has nothing to call."""
    answer = f"get_time\n {render_call({'city': 'x'})}"
    for name, calls in (("get_time", 1), ("get_date", 0)):
        tool = types.SimpleNamespace(function=types.SimpleNamespace(name=name))
        request = types.SimpleNamespace(tools=[tool])
        own = AnswerParser(may_call=True, tools=[name])
        own.push(answer)
        own.end_segment()
        found = parser().extract_tool_calls(answer, request)
        assert (len(found.tool_calls), len(own.calls), found.content or "") == (calls, calls, own.text)
        pieces = [answer, "<|user|>"]
        streamed, text_now, parts = parser(), "", []
        for piece in pieces:
            part = streamed.extract_tool_calls_streaming(text_now, text_now + piece, piece, [], [], [], request)
            parts += [part] if part is not None else []
            text_now += piece
        assert sum(len(part.tool_calls) for part in parts) == calls
        assert "".join(part.content or "" for part in parts).strip() == own.text


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    whole = (MODEL / "tokenizer.model").read_bytes()
    for number, broken in enumerate(
        (whole[: len(whole) // 2], whole[:-200] + whole[-100:], b"\x0a\xff" + whole, b"\x00")
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "tokenizer.model").write_bytes(broken)
        with pytest.raises(StudioError):
            read_pieces(folder)


def test_training_examples_end_as_the_template_does(demo: tuple[Tokenizer, PreTrainedTokenizerFast]) -> None:
    own, other = demo
    turns = [Message("user", "Hi"), Message("assistant", "Hello", trained=True)]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    assert [*other.apply_chat_template(messages, return_dict=False), EOS] == training_example(own, turns).input_ids
