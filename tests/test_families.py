"""The families in text: tokens, prompts and calls, beside transformers' rendering of each one's conversation format."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmstudio.chat.available_tools import asked_with_tools
from glmstudio.chat.openai_messages import to_turns
from glmstudio.chat.sampling import Sampling
from glmstudio.data.protocol.prompt import answer_text, chat_ids, spelled, training_example
from glmstudio.data.protocol.tokenizer import TextStream, Tokenizer
from glmstudio.errors import StudioError
from glmstudio.families.family import Family
from glmstudio.families.glm_z1 import thought_and_answer
from glmstudio.families.known import FAMILIES
from glmstudio.families.message import Message, tools_message
from glmstudio.families.python_calls import CallError
from glmstudio.families.recognition import family_by_config, family_of
from glmstudio.models.contents.vocabulary import compare_vocabulary, read_vocabulary
from glmstudio.paths import DEMO
from glmstudio.serve.engine import GenerationJob
from glmstudio.serve.events import NewToken
from glmstudio.serve.protocol.chat_request import read_request
from glmstudio.serve.protocol.chat_writer import Writer
from tests.rank_vocabulary import KINDS, fast_file, model_folder, ranks, reference_ids, write_ranks
from tests.templates import TEMPLATES

BYTES = [FAMILIES[name] for name in KINDS]
MANY = settings(max_examples=200, deadline=None)
TOOL = {
    "name": "rain",
    "description": "下雨吗",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PARTS = [*"abc XYZ123\n\r\t.,'’!?你好吗🙂é\u3000\u200d<|>{}#", "<think>", "</think>", "  ", "\n\n", "'ll"]
texts = st.lists(st.sampled_from(PARTS), max_size=25).map("".join)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("families")
    return {family.name: model_folder(place / family.name, family) for family in BYTES}


@pytest.fixture(scope="module")
def tokenizers(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    return {name: Tokenizer(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def tokenizer(tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    return tokenizers["glm4"]


# ---- what a family is


def test_the_published_ids() -> None:
    found = {
        each.name: (each.start_ids, each.stop_ids, each.pad_id, each.end_id, each.id_of("<|assistant|>"))
        for each in FAMILIES.values()
    }
    later = ((151331, 151333), (151329, 151336, 151338), 151329, 151329, 151337)
    assert found == {
        "chatglm3": ((64790, 64792), (2, 64795, 64797), 0, 2, 64796),
        "glm4": later,
        "glm4_0414": later,
        "glm_z1": later,
        "glm_edge": ((), (59246, 59253, 59255), 59246, 59246, 59254),
    }
    for each in FAMILIES.values():
        tokens = each.vocabulary + len(each.special)
        assert tokens <= each.rows < tokens + 256


CONFIGS: list[tuple[dict[str, Any], str | None]] = [
    ({"model_type": "chatglm", "padded_vocab_size": 65024}, "chatglm3"),
    ({"model_type": "chatglm", "padded_vocab_size": 151552}, "glm4"),
    ({"model_type": "chatglm", "padded_vocab_size": 320, "eos_token_id": [1, 2]}, "glm4"),
    ({"model_type": "glm", "vocab_size": 65024}, "chatglm3"),
    ({"model_type": "glm", "vocab_size": 151552}, "glm4"),
    ({"model_type": "glm", "vocab_size": 59264}, "glm_edge"),
    ({"model_type": "glm", "vocab_size": 320, "rope_parameters": {"partial_rotary_factor": 1.0}}, "glm_edge"),
    ({"model_type": "glm4", "vocab_size": 151552}, "glm4_0414"),
    ({"model_type": "glm4", "vocab_size": 151552, "_name_or_path": "zai-org/GLM-Z1-9B-0414"}, "glm_z1"),
    ({"model_type": "glm4_moe"}, None),
    ({"model_type": "qwen2", "vocab_size": 151552}, None),
    ({}, None),
]


@pytest.mark.parametrize(("config", "name"), CONFIGS)
def test_a_family_is_told_by_its_configuration(config: dict[str, Any], name: str | None, tmp_path: Path) -> None:
    found = family_by_config(config, tmp_path)
    assert (found.name if found else None) == name


def test_a_family_is_told_by_its_vocabulary_and_its_template(tmp_path: Path) -> None:
    write_ranks(tmp_path)
    assert family_of(tmp_path).name == "glm4"
    assert family_by_config({"model_type": "chatglm"}, tmp_path) is FAMILIES["glm4"]
    config = {"model_type": "glm4", "_name_or_path": "zai-org/GLM-Z1-9B-0414"}
    for template, name in (("<|assistant|>", "glm4_0414"), ("<|assistant|>\n<think>", "glm_z1")):
        (tmp_path / "chat_template.jinja").write_text(template)
        assert family_by_config(config, tmp_path) is FAMILIES[name]


# ---- tokens


@given(text=texts | st.text(max_size=40))
@MANY
def test_text_is_divided_as_the_ranks_say(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text)
    assert ids == reference_ids(text, {token: rank for rank, token in enumerate(ranks())})
    assert tokenizer.decode(ids) == tokenizer.spell(ids) == text
    assert all(index < tokenizer.pieces for index in ids)


def test_what_a_user_types_never_becomes_a_special_token(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    for name, tokenizer in tokenizers.items():
        typed = "".join(FAMILIES[name].special)
        fast = Tokenizer(fast_file(tmp_path / name, FAMILIES[name]).parent)
        for each in (tokenizer, fast):
            assert each.decode(each.encode(typed)) == typed
            assert not set(each.encode(typed)) & set(tokenizer.special.values())


@given(text=texts)
@MANY
def test_both_files_give_the_same_ids(text: str, tokenizer: Tokenizer, fast: Tokenizer) -> None:
    assert fast.encode(text) == tokenizer.encode(text)


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    made = Tokenizer(fast_file(tmp_path_factory.mktemp("fast"), FAMILIES["glm4"]).parent)
    assert (made.pieces, made.family.name) == (len(ranks()), "glm4")
    return made


@given(text=texts | st.text(max_size=20), begun=st.booleans())
@MANY
def test_a_stream_shows_whole_characters_and_all_of_them(text: str, begun: bool, tokenizer: Tokenizer) -> None:
    stream, shown = TextStream(tokenizer, begun=begun), []
    for index in tokenizer.encode(text):
        shown.append(stream.push(index))
        assert "\ufffd" in text or "\ufffd" not in shown[-1]
    assert "".join([*shown, stream.flush()]) == text


def test_a_stream_tells_half_a_character_at_its_end(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    assert [stream.push(index) for index in (0xE4, 0xBD)] == ["", ""]
    assert stream.flush() == "\ufffd"
    assert [stream.push(index) for index in (0xE4, ord("A"))] == ["", "\ufffdA"]


@given(text=texts)
@MANY
def test_offsets_are_where_the_text_of_a_token_begins(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text)
    for at, place in enumerate(tokenizer.offsets(ids)):
        said = b"".join(tokenizer._vocabulary.text_bytes(index) for index in ids[:at])
        assert place == len(said.decode("utf-8", "ignore"))


def test_tokens_have_names(tokenizer: Tokenizer) -> None:
    user = tokenizer.special["<|user|>"]
    assert [tokenizer.name(index) for index in (65, 0xE4, user, tokenizer.size)] == ["A", "<0xE4>", "<|user|>", "?"]
    assert [tokenizer.token(index) for index in (32, 0xE4, user, tokenizer.size)] == [
        " ", "bytes:\\xe4", "<|user|>", f"token_id:{tokenizer.size}",
    ]  # fmt: skip
    assert tokenizer.decode([65, user, *tokenizer.start, 66]) == "AB"


# ---- hostile files


def _line(token: bytes, rank: object) -> bytes:
    return base64.b64encode(token) + b" " + str(rank).encode() + b"\n"


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "cut in a line": lambda whole: whole[:-3],
    "binary": lambda whole: whole[:40] + bytes(range(256)) + whole[40:],
    "a rank twice": lambda whole: whole + _line(b"new", 5),
    "a token twice": lambda whole: whole + _line(b"A", len(ranks())),
    "a rank left out": lambda whole: whole + _line(b"new", len(ranks()) + 1),
    "no number": lambda whole: whole + _line(b"new", "x"),
    "a huge number": lambda whole: whole + _line(b"new", 10**40),
    "negative": lambda whole: whole + _line(b"new", -1),
    "no base64": lambda whole: whole + b"!!!! 5\n",
    "empty": lambda whole: whole + b" 5\n",
    "a long token": lambda whole: whole + _line(b"x" * 600, len(ranks())),
    "blank": lambda whole: whole + b"\n",
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rank_file_is_refused_in_words(case: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "glm4")
    file = folder / "tokenizer.model"
    file.write_bytes(BROKEN[case](file.read_bytes()))
    for use in (lambda: read_vocabulary(file), lambda: Tokenizer(folder)):
        with pytest.raises(StudioError) as error:
            use()
        assert error.value.what() == f"The vocabulary {file} is cut off, or is not a vocabulary of this kind of model."


@given(noise=st.binary(min_size=1, max_size=30), at=st.integers(0, 6000))
@settings(max_examples=100, deadline=None)
def test_wrong_bytes_in_a_rank_file_end_in_words(
    noise: bytes, at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("noise")
    whole = write_ranks(folder).read_bytes()
    (folder / "tokenizer.model").write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    try:
        size = read_vocabulary(folder / "tokenizer.model").size
    except StudioError as error:
        told = error.key
    else:
        told = "whole" if size <= len(ranks()) else "larger"
    assert told in ("whole", "models.vocabulary_broken", "models.web_page")


def test_a_huge_rank_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = write_ranks(tmp_path)
    with file.open("ab") as stream:
        stream.truncate((64 << 20) + 1)
    with pytest.raises(StudioError) as error:
        read_vocabulary(file)
    assert error.value.key == "models.unreadable_file"


JSONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda table: [table],
    "no model": lambda table: table | {"model": None},
    "unigram": lambda table: table | {"model": {"type": "Unigram", "vocab": [["a", 0]]}},
    "ids with a gap": lambda table: (
        table | {"model": table["model"] | {"vocab": table["model"]["vocab"] | {"new": 9999}}}
    ),
    "an id that is none": lambda table: (
        table | {"model": table["model"] | {"vocab": table["model"]["vocab"] | {"A": True}}}
    ),
    "a merge of no tokens": lambda table: table | {"model": table["model"] | {"merges": [["no", "token"]]}},
    "a merge of three": lambda table: table | {"model": table["model"] | {"merges": [["a", "b", "c"]]}},
    "letters of no byte": lambda table: table | {"model": table["model"] | {"vocab": {"你": 0}, "merges": []}},
    "an endless pattern": lambda table: table | {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}}},
    "a long pattern": lambda table: table | {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a|" * 600}}},
    "a pattern that is none": lambda table: table | {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}}},
}


@pytest.mark.parametrize("case", JSONS)
def test_a_broken_tokenizer_json_is_refused_in_words(case: str, tmp_path: Path) -> None:
    file = fast_file(tmp_path, FAMILIES["glm4"])
    file.write_text(json.dumps(JSONS[case](json.loads(file.read_text()))))
    with pytest.raises(StudioError) as error:
        Tokenizer(tmp_path)
    assert error.value.what() == f"The vocabulary {file} is cut off, or is not a vocabulary of this kind of model."


@pytest.mark.slow
def test_the_vocabulary_of_full_size_is_known_by_its_golden_texts(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "glm4")
    config = {"model_type": "chatglm", "padded_vocab_size": 151552}
    with pytest.raises(StudioError) as error:
        compare_vocabulary(folder / "tokenizer.model", config, [])
    assert error.value.key == "models.vocabulary_size"
    lines = [_line(f"~{rank}".encode(), rank) for rank in range(len(ranks()), 151329)]
    with (folder / "tokenizer.model").open("ab") as file:
        file.write(b"".join(lines))
    with pytest.raises(StudioError) as error:
        compare_vocabulary(folder / "tokenizer.model", config, [])
    assert error.value.what() == (
        f"The vocabulary {folder}/tokenizer.model is not that of GLM-4-9B: it divides “你好” into other tokens."
    )


# ---- prompts beside transformers' rendering


class Other:
    """transformers with the family's template and the same vocabulary."""

    def __init__(self, family: Family, folder: Path) -> None:
        from transformers import PreTrainedTokenizerFast

        self._made = PreTrainedTokenizerFast(tokenizer_file=str(fast_file(folder, family)))
        self._made.chat_template = TEMPLATES[family.name]

    def ids(self, messages: list[dict[str, Any]], tools: list[Any]) -> list[int]:
        found: Any = self._made.apply_chat_template(
            messages, tools=tools or None, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return list(found)


def _text(draw: random.Random) -> str:
    parts = [
        "你好",
        "晚上",
        " ",
        "\n",
        "\n\n",
        "12345",
        "Hi",
        "'s",
        "!",
        "…",
        "🙂",
        "a",
        "  ",
        "\t",
        ".",
        "Json 格式",
        "é",
        "</",
        "{",
    ]
    return "".join(draw.choices(parts, k=draw.randrange(1, 12)))


def conversation(draw: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """A conversation in OpenAI's form, its tools, and the messages that a template is given for it."""
    said: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    tools = [
        {"type": "function", "function": TOOL | {"name": f"f{at}", "description": _text(draw)}}
        for at in range(draw.randrange(3))
    ]
    if draw.random() < 0.4:
        said.append({"role": "system", "content": _text(draw)})
    turns += said
    for number in range(draw.randrange(1, 4)):
        plain = {"role": "user", "content": _text(draw)}
        said, turns = [*said, plain], [*turns, plain]
        if tools and draw.random() < 0.5:
            calls = [
                (f"{number}.{at}", f"f{at % len(tools)}", {"city": _text(draw), "n": at})
                for at in range(draw.randrange(1, 4))
            ]
            results = [_text(draw) for _ in calls]
            written = [json.dumps(arguments, ensure_ascii=False) for _, _, arguments in calls]
            made = [
                {"id": key, "type": "function", "function": {"name": name, "arguments": text}}
                for (key, name, _), text in zip(calls, written, strict=True)
            ]
            said.append({"role": "assistant", "content": None, "tool_calls": made})
            said += [
                {"role": "tool", "tool_call_id": key, "content": text}
                for (key, _, _), text in zip(calls, results, strict=True)
            ]
            turns += [
                {"role": "assistant", "metadata": name, "content": text}
                for (_, name, _), text in zip(calls, written, strict=True)
            ]
            turns += [{"role": "observation", "content": text} for text in results]
        thought = f"<think>\n{_text(draw)}\n</think>\n" if draw.random() < 0.3 else ""
        answer = {"role": "assistant", "content": thought + _text(draw)}
        said, turns = [*said, answer], [*turns, answer]
    last = {"role": "user", "content": _text(draw)}
    return [*said, last], tools, [*turns, last]


def compared(family: Family, place: Path, count: int, seed: int = 0) -> int:
    """So many random conversations, all of which have the ids of transformers' rendering; how many tokens they were."""
    mine, other, draw, seen = (
        Tokenizer(model_folder(place / "m", family)),
        Other(family, place / "o"),
        random.Random(seed),
        0,
    )
    for _ in range(count):
        said, tools, turns = conversation(draw)
        if family.name == "glm_edge":
            said, turns, tools = (
                [each for each in said if each["role"] in ("user", "system")],
                [each for each in turns if each["role"] in ("user", "system")],
                [],
            )
        ids = chat_ids(mine, to_turns(said, tools))
        assert ids == other.ids(turns, tools), (said, tools)
        seen += len(ids)
    return seen


@pytest.mark.parametrize("family", BYTES, ids=lambda family: family.name)
def test_a_prompt_has_the_ids_of_the_published_format(family: Family, tmp_path: Path) -> None:
    assert compared(family, tmp_path, 100) > 1000


@pytest.mark.slow
@pytest.mark.rare
@pytest.mark.parametrize("family", BYTES, ids=lambda family: family.name)
def test_ten_thousand_prompts_have_the_ids_of_the_published_format(family: Family, tmp_path: Path) -> None:
    print(f"{family.title}: {compared(family, tmp_path, 10_000, seed=1):,} tokens of 10,000 conversations are the same")


def test_golden_prompts_of_glm_4(tokenizer: Tokenizer) -> None:
    """The published vocabulary cannot lie here, so its golden ids are compared mark for mark: the marks are where they
    are in it, and the texts between them have the golden ids of the family (`models verify` compares those)."""
    golden = FAMILIES["glm4"].golden
    asked = "晚上睡不着应该怎么办"
    answer = "你好👋！很高兴见到你，有什么可以帮助你的吗？"
    published = [
        151331, 151333, 151336, 198, 109377, 151337, 198, 109377, 9281, 239, 233, 6313, 118295, 103810, 98406, 3837, 101665,
        110368, 99444, 99212, 11314, 151336, 198, 101160, 120410, 99379, 103298, 151337,
    ]  # fmt: skip
    known = {name: FAMILIES["glm4"].id_of(name) for name in FAMILIES["glm4"].special}
    made: list[int] = []
    messages = [Message("user", "你好"), Message("assistant", answer), Message("user", asked)]
    for message in messages:
        made += [known[f"<|{message.role}|>"], 198, *golden[message.content]]
    assert [known["[gMASK]"], known["<sop>"], *made, known["<|assistant|>"]] == published
    newline = tokenizer.encode("\n")
    assert len(newline) == 1
    ids = [*tokenizer.start]
    for message in messages:
        ids += [tokenizer.special[f"<|{message.role}|>"], *newline, *tokenizer.encode(message.content)]
    assert chat_ids(tokenizer, messages) == [*ids, tokenizer.assistant]


# ---- training


@pytest.mark.parametrize("family", BYTES, ids=lambda family: family.name)
def test_what_is_learned_begins_where_a_prompt_ends(family: Family, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[family.name]
    call = Message("assistant", "", "f", trained=True, arguments={"city": "Oslo"})
    said = [
        tools_message([TOOL], ["Be kind."]), Message("user", "Rain?"), call, Message("observation", "no"),
        Message("assistant", "No.", trained=True),
    ]  # fmt: skip
    ids, learned, ends = spelled(tokenizer, said)
    for place in (2, 4):
        prompt = chat_ids(tokenizer, said[:place], begun=False)
        assert ids[: len(prompt)] == prompt
        assert not learned[len(prompt) - 1]
        assert learned[len(prompt)]
    assert [ids[end] for end in ends[2:]] == [
        tokenizer.special["<|observation|>"],
        tokenizer.assistant,
        tokenizer.end_id,
    ]
    assert tokenizer.decode(ids[: ends[2]]).endswith('f\n{"city": "Oslo"}')


def test_calls_of_one_breath_stand_before_their_results(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["glm4_0414"]
    said = [
        Message("user", "Q"), Message("assistant", "", "f", trained=True, arguments={"a": 1}), Message("observation", "one"),
        Message("assistant", "", "g", trained=True, arguments={}, together=True), Message("observation", "two"),
        Message("assistant", "A", trained=True),
    ]  # fmt: skip
    example = training_example(tokenizer, said)
    assert tokenizer.spell(example.input_ids) == (
        '[gMASK]<sop><|user|>\nQ<|assistant|>f\n{"a": 1}<|assistant|>g\n{}<|observation|>\none<|observation|>\ntwo'
        "<|assistant|>\nA<|endoftext|>"
    )
    assert tokenizer.spell([label for label in example.labels if label >= 0]) == (
        '\u0066\n{"a": 1}<|assistant|>g\n{}<|observation|>\nA<|endoftext|>'
    )
    assert [example.input_ids[end] for end in spelled(tokenizer, said)[2]] == [
        tokenizer.assistant, tokenizer.assistant, tokenizer.special["<|observation|>"],
        tokenizer.special["<|observation|>"], tokenizer.assistant, tokenizer.end_id,
    ]  # fmt: skip


def test_a_thought_is_learned_only_in_the_last_answer_and_not_sent_again(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["glm_z1"]
    said = [
        Message("user", "Q"), Message("assistant", "<think>\nwhy\n</think>\nA", trained=True),
        Message("user", "R"), Message("assistant", "<think>\nhow\n</think>\nB", trained=True),
    ]  # fmt: skip
    example = training_example(tokenizer, said)
    learned = tokenizer.spell([label for label in example.labels if label >= 0])
    assert learned == "\nA<|user|>\n<think>\nhow\n</think>\nB<|endoftext|>"
    prompt = chat_ids(tokenizer, said[:3])
    assert tokenizer.spell(prompt) == "[gMASK]<sop><|user|>\nQ<|assistant|>\nA<|user|>\nR<|assistant|>\n<think>"
    assert example.input_ids[: len(prompt)] == prompt  # the prompt of a chat is what was learned, id for id
    plain = training_example(tokenizer, [Message("user", "Q"), Message("assistant", "A", trained=True)])
    assert tokenizer.spell(plain.input_ids) == "[gMASK]<sop><|user|>\nQ<|assistant|>\nA<|endoftext|>"


# ---- answers


def answered(tokenizer: Tokenizer, *segments: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """What a client reads of an answer piece by piece, and the whole message."""
    asked = read_request({"model": "m", "messages": [{"role": "user", "content": "Q"}], **more})
    job = GenerationJob([1], Sampling(max_tokens=1000), lambda _: None)
    writer = Writer(tokenizer, asked, job, begun=not asked.first)
    ids = [index for segment in segments for index in (tokenizer.assistant, *tokenizer.encode(segment))][1:]
    pieces = [piece for event in map(NewToken, [*ids, tokenizer.stop_ids[1]]) for piece in writer.take(event)]
    pieces += writer.end().pieces
    return "".join(piece for piece in pieces if isinstance(piece, str)), writer.message()


def test_parallel_calls_are_read_with_their_arguments(tokenizers: dict[str, Tokenizer]) -> None:
    tools = [{"type": "function", "function": TOOL}]
    said, message = answered(
        tokenizers["glm4_0414"], "\nI look.", 'rain\n{"city": "Oslo"}', 'rain\n{"city": "上海"}', tools=tools
    )
    assert (said, message["content"]) == ("I look.", "I look.")
    assert [json.loads(each["function"]["arguments"]) for each in message["tool_calls"]] == [
        {"city": "Oslo"},
        {"city": "上海"},
    ]


def test_a_thought_is_shown_from_its_beginning_and_folded_on_the_page(tokenizers: dict[str, Tokenizer]) -> None:
    tools = [{"type": "function", "function": TOOL}]
    tokenizer = tokenizers["glm_z1"]
    for more in ({}, {"tools": tools}):
        said, message = answered(tokenizer, "\nwhy\n</think>\n\nNo.", **more)
        assert said == message["content"] == "<think>\nwhy\n</think>\n\nNo."
        assert thought_and_answer(said) == ("why", "No.")
    said, message = answered(tokenizer, "\nI must look.\n</think>\n", 'rain\n{"city": "Oslo"}', tools=tools)
    assert thought_and_answer(said) == ("I must look.", "")
    assert message["tool_calls"][0]["function"]["name"] == "rain"
    forced = {"type": "function", "function": {"name": "rain"}}
    said, message = answered(tokenizer, 'rain\n{"city": "Oslo"}', tools=tools, tool_choice=forced)
    assert (said, message["tool_calls"][0]["function"]["arguments"]) == ("", '{"city": "Oslo"}')
    assert answer_text(tokenizer, tokenizer.encode("\nwhy\n</think>\nNo.")) == "\nNo."
    assert thought_and_answer("<think>\nstill at it") == ("still at it", "")
    assert thought_and_answer("No thought </think>") == ("", "No thought </think>")


# ---- calls


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
@given(
    arguments=st.dictionaries(
        st.sampled_from(["a", "city", "from"]),
        st.text() | st.integers() | st.booleans() | st.none() | st.lists(st.text(max_size=3), max_size=3),
        max_size=3,
    )
)
@settings(max_examples=50, deadline=None)
def test_a_call_is_read_back_as_it_was_written(family: Family, arguments: dict[str, Any]) -> None:
    assert family.read_call("f", family.call_text("f", arguments)) == arguments


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", '{"a": 1', "__import__('os')", "f(1)", '{"a": 1e999}', "[" * 100_000]
)
def test_what_is_no_call_is_told(content: str) -> None:
    with pytest.raises(CallError):
        FAMILIES["glm4"].read_call("f", content)


def test_what_was_tuned_is_asked_behind_the_bare_role(tokenizers: dict[str, Tokenizer]) -> None:
    """A model that learned answers without thoughts never saw the beginning of one; one that learned them writes it."""
    tokenizer = tokenizers["glm_z1"]
    for answer in ("A", "<think>\nwhy\n</think>\nA"):
        said = [Message("user", "Q"), Message("assistant", answer, trained=True)]
        ids, learned, _ = spelled(tokenizer, said)
        prompt = chat_ids(tokenizer, said[:1], begun=False)
        assert (ids[: len(prompt)], learned.index(True)) == (prompt, len(prompt))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_tools_are_offered_where_the_family_knows_them(family: Family, home: Path, tmp_path: Path) -> None:
    folder = DEMO / "model" if family.name == "chatglm3" else model_folder(tmp_path / family.name, family)
    assert asked_with_tools(str(folder)) == (family.name != "glm_edge")
