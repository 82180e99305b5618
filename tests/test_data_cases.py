"""Files as people brought them, each with what is right for it, and the kinds that they belong to."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from glmstudio.chat.openai_messages import AnswerParser
from glmstudio.data.faults import ExaminedRecord, examine
from glmstudio.data.formats import ParsedConversation, conversations
from glmstudio.data.readers.encodings import encoding_of
from glmstudio.data.records import Record, check_file, read_examined, read_records
from glmstudio.errors import StudioError
from glmstudio.families.message import Message, tools_message
from tests.documents import sheet

CASES = Path(__file__).parent / "cases" / "data"
LEGACY: dict[str, list[list[str]]] = json.loads((CASES / "legacy.json").read_text(encoding="utf-8"))
SEAT = {
    "name": "book_seat",
    "description": "Books a seat.",
    "parameters": {"type": "object", "properties": {"row": {"type": "integer"}}, "required": ["row"]},
}
RAIN = {
    "name": "rain",
    "description": "",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def user(text: str) -> Message:
    return Message("user", text)


def answer(text: str) -> Message:
    return Message("assistant", text, trained=True)


def called(name: str, result: str, **arguments: Any) -> list[Message]:
    call = Message("assistant", "", name, trained=True, arguments=arguments)
    return [call, Message("observation", result)]


def beside(call: Message, result: Message) -> list[Message]:
    """A call in the same breath as the one before."""
    return [replace(call, together=True), result]


def messages_of(file: Path) -> list[list[Message]]:
    return [list(each.messages) for each in read_records(file) if isinstance(each, Record)]


def problems_of(file: Path) -> list[tuple[int, str, str | None]]:
    return [(each.line, each.reason.key.removeprefix("data."), each.fix) for each in check_file(file).problems]


def mended_of(file: Path) -> dict[int, list[Message]]:
    return {line: list(each.mended) for _, line, each in read_examined(file) if each.mended is not None}


def one(record: Any) -> ExaminedRecord:
    (found,) = conversations(record)
    if isinstance(found, StudioError):
        raise found
    assert isinstance(found, ParsedConversation)
    return examine(found)


def told(record: Any) -> str:
    """The key of what is wrong with a record; "" where nothing is."""
    try:
        worst = one(record).worst
    except StudioError as reason:
        return reason.key.removeprefix("data.")
    return "" if worst is None else worst.reason.key.removeprefix("data.")


def test_tools_in_the_system_message_and_calls_as_glm4_writes_them() -> None:
    file = CASES / "glm4-messages-tools.jsonl"
    tools = tools_message([SEAT])
    assert messages_of(file) == [
        [tools, user("A seat in row 4, please."), *called("book_seat", '{"seat": "4A"}', row=4), answer("You have seat 4A.")],
        [tools, user("Which row is the quietest?"), answer("The last one.")],
    ]  # fmt: skip
    found = check_file(file)
    assert found.problems == ()
    assert [(note.kind, note.count, note.lines) for note in found.notes] == [("calls_read", 1, (1,))]


@pytest.mark.parametrize("name", LEGACY)
def test_legacy_encodings(name: str) -> None:
    said = [[message.content for message in each] for each in messages_of(CASES / f"{name}.csv")]
    assert said == LEGACY[name]
    assert check_file(CASES / f"{name}.csv").problems == ()


SENTENCES = {
    "zh": ["李白是唐代著名诗人，字太白，号青莲居士。", "什么是梯度下降？", "法国的首都是巴黎。", "阿司匹林有哪些副作用？"],
    "tw": ["台灣最高的山是什麼？", "請介紹臺北。", "貓喜歡吃魚。", "今天的會議幾點開始？"],
    "ja": ["富士山の高さは3776メートルです。", "日本の首都はどこですか。", "東京です。", "ありがとうございます。"],
    "ko": ["한국의 수도는 어디입니까?", "김치는 배추를 발효시킨 음식입니다.", "안녕하세요.", "감사합니다."],
    "west": ["Où est la bibliothèque, près du château ?", "A capital é Brasília, não São Paulo.", "Natürlich heiße ich Jürgen.",
             "¿Cómo se llama el niño?", "It’s “fine” – really."],
    "east": ["Książka leży na stole.", "Příliš žluťoučký kůň úpěl.", "Hol van a könyv? A tűz előtt."],
    "more": ["Столица России находится здесь.", "Η πόλη είναι εδώ, κοντά.", "Güneş doğdu, teşekkür ederim.", "Jānis dzīvo Rīgā."],
}  # fmt: skip
CODECS = {
    "zh": ["gbk", "gb18030", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"], "tw": ["big5", "gbk", "big5hkscs"],
    "ja": ["cp932", "euc_jp", "iso2022_jp", "utf-16-be"], "ko": ["cp949", "euc_kr", "utf-16"],
    "west": ["cp1252", "utf-16-le"], "east": ["cp1250", "iso8859_2", "cp852"],
    "more": ["cp1251", "koi8_r", "cp866", "cp1253", "cp1254", "cp1257", "mac_roman"],
}  # fmt: skip


@FEW
@given(st.data())
def test_a_text_is_read_in_its_encoding_or_not_at_all(data: st.DataObject) -> None:
    language = data.draw(st.sampled_from(sorted(SENTENCES)))
    codec = data.draw(st.sampled_from(CODECS[language]))
    lines = data.draw(st.lists(st.sampled_from(SENTENCES[language]), min_size=1, max_size=4))
    text = "prompt,response\r\n" + "".join(f"{line.replace(',', ';')},ok\r\n" for line in lines)
    try:
        raw = text.encode(codec)
    except UnicodeEncodeError:
        assume(False)
    found = ""
    with contextlib.suppress(StudioError):
        found = encoding_of(raw)
    if not found:  # fine for most; then nothing is learned
        usual = language in ("zh", "ko") or (language == "west" and len(set(lines)) == 1)
        assert not usual or codec != CODECS[language][0]
        return
    read = raw.decode(found, "surrogateescape").removeprefix("\ufeff")
    assert read == text or (found == "utf-8-sig" and any("\udc80" <= sign <= "\udcff" for sign in read))


def test_an_unknown_encoding_is_one_problem_with_its_remedy(tmp_path: Path) -> None:
    file = tmp_path / "greek.csv"
    file.write_bytes("prompt,response\nΠού είναι η πόλη;,Η πόλη είναι εδώ.\n".encode("cp1253") * 20)
    ((line, key, _),) = problems_of(file)
    assert (line, key) == (1, "encoding_unknown")
    assert "save it as UTF-8" in check_file(file).problems[0].text()
    (tmp_path / "good.csv").write_text("prompt,response\na,b\n")
    assert check_file(tmp_path).records == 1


def test_an_input_that_is_none_and_answers_that_are_missing() -> None:
    file = CASES / "nan-and-empty-input.jsonl"
    assert [[each.content for each in said] for said in messages_of(file)[:4]] == [
        ["Name a colour.", "Blue."], ["Name a tree.", "Oak."], ["Name a bird.", "Owl."], ["Name a city.", "Oslo."],
    ]  # fmt: skip
    assert problems_of(file) == [(5, "field_missing", None), (6, "turn_content", None)]
    assert sorted(mended_of(file)) == [1, 2, 3, 4]


NOTHING = st.sampled_from([None, float("nan"), "", " \n", [], {}, [None], "nan", "<noinput>", {"a": None}])


@FEW
@given(NOTHING, st.sampled_from(["input", "system", "history", "tools", "weight", "images", "label"]))
def test_what_holds_nothing_changes_nothing(nothing: Any, field: str) -> None:
    if field != "input":
        nothing = None if nothing else nothing
    record = {"instruction": "Q", "output": "A"}
    assume(not (field == "system" and isinstance(nothing, str) and nothing.strip()))
    assume(not (field in ("system", "history") and nothing not in (None, "", [])))
    assert one(record | {field: nothing}).messages == one(record).messages
    assert told(record | {field: nothing}) == ""


@pytest.mark.parametrize("nothing", [None, float("nan")])
@pytest.mark.parametrize(
    "record",
    [
        {"question": "Q", "answer": ...}, {"question": ..., "answer": "A"}, {"prompt": "Q", "response": ...},
        {"instruction": "Q", "input": "x", "output": ...}, {"问题": "Q", "答案": ...},
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": ...}]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": ...}]},
        {"conversations": [{"role": "user", "content": ...}, {"role": "assistant", "content": "A"}]},
        {"instruction": "Q", "output": "A", "history": [["a", ...]]},
    ],
)  # fmt: skip
def test_a_missing_question_or_answer_is_never_a_word(record: Any, nothing: Any) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(each) for name, each in value.items()}
        return list(map(filled, value)) if isinstance(value, list) else nothing if value is ... else value

    assert told(filled(record)) in ("turn_content", "field_missing", "fact_no_question")
    with contextlib.suppress(StudioError):
        assert one(filled(record)).mended is None


def test_preference_data() -> None:
    file = CASES / "preference-data.jsonl"
    assert problems_of(file) == [(1, "not_wanted", None), (3, "several_answers", None), (4, "preference", "chosen")]
    assert mended_of(file) == {
        2: [user("Is honey sweet?"), answer("Yes, it is.")],
        4: [user("Is ice cold?"), answer("Yes.")],
    }


ASK, GOOD, BAD = (
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A"},
    {"role": "assistant", "content": "B"},
)
SHARE = [{"from": "human", "value": "Q"}]
PAIRS = [
    {"prompt": "Q", "chosen": "A", "rejected": "B"},
    {"instruction": "Q", "input": "", "chosen": "A", "rejected": "B"},
    {"question": "Q", "chosen": "A", "rejected": "B", "system": ""},
    {"prompt": "Q", "chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
    {"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD]},
    {"chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
    {"messages": [ASK, GOOD], "rejected_response": "B"},
    {"messages": [ASK], "chosen": GOOD, "rejected": BAD},
    {"conversations": SHARE, "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}},
    {"conversations": SHARE, "chosen": "A", "rejected": "B"},
    {"input": {"messages": [ASK]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
    {"question": "Q", "response_j": "A", "response_k": "B"},
]


@pytest.mark.parametrize("record", PAIRS)
def test_of_a_preference_pair_the_chosen_answer_stays(record: Any) -> None:
    found = one(record)
    assert found.messages is None
    assert found.mended == (user("Q"), answer("A"))
    assert told(record) == "preference"
    assert [fault.fix for fault in found.faults] == ["chosen"]


@pytest.mark.parametrize(
    "record", [{"chosen": "A", "rejected": "B"}, {"prompt": "Q", "chosen": [["A"]], "rejected": []}]
)
def test_a_pair_without_its_question_cannot_be_kept(record: Any) -> None:
    assert told(record) == "preference"


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"prompt": "Q", "response": "A", "label": False}, "not_wanted"),
        ({"prompt": "Q", "response": "A", "kto_tag": "False"}, "not_wanted"),
        ({"prompt": "Q", "response": "A", "label": True}, ""),
        ({"question": "Q", "answer": "A", "label": "false"}, "not_wanted"),
        ({"prompt": "Q", "response": ["A", "B"]}, "several_answers"),
        ({"prompt": "Q", "response": ["A"]}, ""),
        ({"question": "Q", "choices": ["x", "y"], "answer": 1}, "choices"),
        ({"question": "Q", "A": "x", "B": "y", "C": "z", "D": "w", "answer": "C"}, "choices"),
        ({"question": "Q\nx\ny", "choices": ["x", "y"], "answer": "x"}, ""),
        ({"question": "Q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}, "choices"),
        ({"task_id": "HumanEval/0", "prompt": "def f():", "canonical_solution": "pass", "test": "f()"}, "programming_task"),
        ({"query": "Q", "response": "A", "videos": ["a.mp4"]}, "media"),
        ({"messages": [ASK | {"images": ["a.jpg"]}, GOOD]}, "media"),
        ({"conversations": [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}], "image": "a.jpg"}, "media"),
        ({"prompt": "Picture 1: <img>a.jpg</img>\nQ", "response": "A"}, "media"),
        ({"prompt": "<|image|>Q", "response": "A"}, "media"),
        ({"prompt": "![](data:image/png;base64,iVBORw0KGgo=) Q", "response": "A"}, "media"),
        ({"prompt": "What is in `data:text/plain;base64,QQ==`?", "response": "A"}, ""),
        ({"prompt": "Close this: <video src='x'></video>", "response": "A"}, ""),
        ({"prompt": "Fix ```<audio>```", "response": "A"}, ""),
        ({"prompt": "Q", "response": "A", "images": []}, ""),
    ],
)  # fmt: skip
def test_other_kinds_of_data_are_named(record: Any, kind: str) -> None:
    assert told(record) == kind


@pytest.mark.parametrize("nothing", [[], {}, [None], [[]], {"text": ""}])
@pytest.mark.parametrize("form", ["pairs", "openai", "sharegpt"])
def test_brackets_with_nothing_in_them_are_no_text(form: str, nothing: Any) -> None:
    record = {
        "pairs": {"prompt": "Q", "response": nothing},
        "openai": {"messages": [ASK, {"role": "assistant", "content": nothing}]},
        "sharegpt": {"conversations": [*SHARE, {"from": "gpt", "value": nothing}]},
    }[form]
    found = one(record)
    assert (found.messages, found.mended) == (None, None)
    assert found.worst is not None
    assert found.worst.fix is None


def test_a_tool_may_find_nothing() -> None:
    call = {"from": "function_call", "value": '{"name": "rain", "arguments": {"city": "X"}}'}
    turns = [*SHARE, call, {"from": "observation", "value": []}, {"from": "gpt", "value": "A"}]
    mended = one({"conversations": turns, "tools": [RAIN]}).mended
    assert mended is not None
    assert mended[-2] == Message("observation", "[]")


@FEW
@given(st.text(st.sampled_from(" \t\n\u00a0\u3000\u200b\u200d\u2060\ufeff\u00ad"), max_size=6))
def test_an_answer_that_nobody_can_see_is_empty(text: str) -> None:
    assert told({"prompt": "Q", "response": text}) == "answer_empty"
    assert told({"prompt": "Q", "response": f"{text}。{text}"}) == ""


@FEW
@given(
    st.sampled_from(["Grüße aus Köln", "où est José ?", "“quoted” – so", "今天天气怎么样", "これは何ですか", "NÃO, É ÂNCORA"]),
    st.sampled_from(["", "cp1252", "latin-1", "ascii"]), st.booleans(),
)  # fmt: skip
def test_letters_that_an_encoding_has_spoilt_are_noted(text: str, taken_for: str, asked: bool) -> None:
    spoilt = text.encode().decode(taken_for or "utf-8", errors="replace")
    record = {"prompt": spoilt, "response": "A"} if asked else {"prompt": "Q", "response": spoilt}
    assert [kind for kind, _ in one(record).notes] == (["garbled"] if taken_for else [])


def test_a_question_with_choices_gets_them() -> None:
    mended = one({"question": "Which?", "choices": ["x", "y"], "answer": 1}).mended
    assert mended == (user("Which?\nA. x\nB. y"), answer("B. y"))


def test_records_about_media() -> None:
    assert problems_of(CASES / "images-field.jsonl") == [
        (1, "media", None), (2, "media", None), (3, "media", None), (4, "content_part", None),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["commas", "indented", "indented_list", "list"])
@pytest.mark.parametrize("end", [".jsonl", ".json"])
def test_json_under_either_name(name: str, end: str, tmp_path: Path) -> None:
    file = tmp_path / f"data{end}"
    file.write_bytes((CASES / f"{name}.jsonl").read_bytes())
    assert check_file(file).problems == ()
    assert messages_of(file) == [[user(f"问题{number}"), answer(f"回答{number}")] for number in range(3)]


@FEW
@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=6, unique=True),
    st.sampled_from([None, 0, 1, 4, "\t"]), st.sampled_from(["list", "lines", "commas", "bracketed"]),
    st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans(),
)  # fmt: skip
def test_however_json_is_laid_out_the_same_is_read(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], indent: Any, layout: str, end: str, mark: bool
) -> None:
    records = [{"prompt": f"q{text}", "response": "a"} for text in texts]
    each = [
        json.dumps(record, indent=indent).replace("\n", end[:-1] + "\n" if end == "\r\n" else "\n")
        for record in records
    ]
    text = {
        "list": json.dumps(records, indent=indent), "lines": end.join(each) + end, "commas": f",{end}".join(each) + f",{end}",
        "bracketed": f"[{end}" + f",{end}".join(each) + f"{end}]{end}",
    }[layout]  # fmt: skip
    file = tmp_path_factory.mktemp("layout") / "data.jsonl"
    file.write_bytes(text.encode("utf-8-sig" if mark else "utf-8"))
    assert [each[0].content for each in messages_of(file)] == [record["prompt"] for record in records]


def test_a_bad_line_spoils_no_other_even_the_first(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    good = [json.dumps({"prompt": str(number), "response": "x"}) for number in range(3)]
    for bad in ('{"prompt": "a" "response": "b"}', "{", "[1, 2", '{"prompt": "a', "x"):
        file.write_text("\n".join([bad, *good]) + "\n")
        assert [line for line, _, _ in problems_of(file)] == [1]
        assert check_file(file).records == 3


def test_nulls_as_exports_have_them() -> None:
    file = CASES / "null-columns.jsonl"
    assert problems_of(file) == [(6, "call_nulls", "nulls")]
    said = [("One?", "1"), ("Two?", "2"), ("Three?", "3"), ("Four?", "4"), ("Five?", "5")]
    assert messages_of(file)[:5] == [[user(asked), answer(due)] for asked, due in said]
    assert mended_of(file)[6][2] == called("rain", "", city="Oslo")[0]


def test_only_nulls_that_a_tool_does_not_want_are_left_out() -> None:
    inner = {"type": "object", "properties": {"x": {"type": "string"}}}
    schema = {"a": {"type": "string"}, "b": {"type": ["string", "null"]}, "c": inner, "d": None}
    tools = [{"name": "f", "parameters": {"type": "object", "properties": schema, "required": ["a"]}}]

    def record(**arguments: Any) -> Any:
        call = {"function": {"name": "f", "arguments": arguments}}
        return {"messages": [ASK, {"role": "assistant", "tool_calls": [call]}], "tools": tools}

    assert told(record(a="x", b=None)) == ""
    assert told(record(a=None)) == "call_kind"
    found = one(record(a="x", b=None, c={"x": None, "y": None}, d=None, e=None))
    assert [(fault.reason.key, fault.fix) for fault in found.faults] == [("data.call_nulls", "nulls")]
    assert found.mended is not None
    assert found.mended[2].arguments == {"a": "x", "b": None, "c": {}}


def test_arguments_that_are_encoded_twice() -> None:
    file = CASES / "double-encoded-arguments.jsonl"
    assert problems_of(file) == [(1, "call_twice", "decoded")]
    assert mended_of(file)[1][2] == called("land", "", where="here")[0]


def test_lists_of_calls_other_roles_and_blank_tools() -> None:
    file = CASES / "sharegpt-call-list.jsonl"
    assert check_file(file).problems == ()
    assert messages_of(file) == [
        [tools_message([RAIN]), user("Rain in Oslo and Rome?"), *called("rain", "no", city="Oslo"),
         *beside(*called("rain", "yes", city="Rome")), answer("Only in Rome.")],
        [tools_message([RAIN]), user("Rain in Oslo?"), *called("rain", "no", city="Oslo"), answer("No.")],
        [user("Fog?"), answer("No.")],
    ]  # fmt: skip


def test_tables_as_excel_leaves_them(tmp_path: Path) -> None:
    for name in ("trailing", "sep", "blank"):
        found = check_file(CASES / f"{name}.csv")
        assert (found.records, found.problems, found.notes) == (2, (), ())
    file = tmp_path / "remarks.csv"
    file.write_text('"sep=;"\n;;\nprompt;response;;\nHi;Hello;;\nBye;"See; you";;later\nLast;One\n;;;\n')
    found = check_file(file)
    assert (found.records, found.problems) == (3, ())
    (note,) = found.notes
    assert (note.kind, note.count, note.lines, note.samples) == ("nameless_column", 1, (5,), ("4",))
    assert "Column 4 has no name" in note.text()
    assert [each.line for each in read_records(file)] == [4, 5, 6]


def test_a_sheet_is_named_behind_the_file(tmp_path: Path) -> None:
    file = sheet(tmp_path / "a.xlsx", ("问题", "答案"), ("a", "b"))
    from openpyxl import load_workbook

    book = load_workbook(file)
    book["other"].delete_rows(1)
    for row in (("", ""), ("prompt", "response", ""), ("Q", "#N/A"), ("R", 7.0, None)):
        book["other"].append(row)
    book.save(file)
    named = tmp_path / "a.xlsx#other"
    assert messages_of(named)[-1] == [user("R"), answer("7")]
    assert [key for _, key, _ in problems_of(named)] == ["answer_empty"]  # a formula that failed says nothing
    assert messages_of(file) == [[user("a"), answer("b")]]
    with pytest.raises(StudioError) as error:
        check_file(tmp_path / "a.xlsx#no")
    assert "its sheets are: Sheet, other" in str(error.value)
    with pytest.raises(StudioError, match="There is no file"):
        check_file(tmp_path / "b.xlsx#other")


def test_placeholders_are_one_note() -> None:
    found = check_file(CASES / "placeholders.jsonl")
    assert (found.records, found.problems) == (3, ())
    assert [(note.kind, note.count, note.lines) for note in found.notes] == [("placeholders", 2, (1, 2))]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("I am {{name}} of {{author}}.", ["placeholders"]), ("I am <AUTHOR>.", ["placeholders"]),
        ("{{ x }}", []), ("```\n{{x}}\n```", []), ("<DIV> and <BODY>", []), ("{{x|upper}} and {{x.y}}", []),
        ("A <b>word</b> & more", []), ("Fine.<|user|>\nNext", ["special_tokens"]), ("[gMASK]sop<|user|>", ["special_tokens"]),
        ("Done.</s>", ["special_tokens"]), ("<s>old</s> price", []), ("<|im_end|>", ["special_tokens"]),
        ("### Response: x", ["special_tokens"]), ("[INST] x [/INST]", ["special_tokens"]), ("a[0] < b[1] | c", []),
    ],
)  # fmt: skip
def test_what_is_noted_about_an_answer(text: str, kinds: list[str]) -> None:
    assert [kind for kind, _ in one({"prompt": "Q", "response": text}).notes] == kinds
    assert told({"prompt": "Q", "response": text}) == ""


CALL = "```python\ntool_call(city='Oslo')\n```"
WRITTEN = [
    f"rain\n{CALL}", "rain\ntool_call(city='Oslo')", 'rain\n{"city": "Oslo"}', 'rain\n```json\n{"city": "Oslo"}\n```',
    '{"name": "rain", "arguments": {"city": "Oslo"}}', '{"name": "rain", "arguments": "{\\"city\\": \\"Oslo\\"}"}',
    '```json\n{"name": "rain", "parameters": {"city": "Oslo"}}\n```',
    '<tool_call>\n{"name": "rain", "arguments": {"city": "Oslo"}}\n</tool_call>',
    '[{"name": "rain", "arguments": {"city": "Oslo"}}]', f"<|assistant|>rain\n{CALL}",
]  # fmt: skip


@pytest.mark.parametrize("content", WRITTEN)
@pytest.mark.parametrize("form", ["official", "openai", "sharegpt"])
def test_a_call_in_the_text_of_an_answer_is_a_call(content: str, form: str) -> None:
    said = [("user", "Rain?"), ("assistant", content), ("observation", "no"), ("assistant", "No.")]
    record: Any = {"tools": [RAIN], "messages": [{"role": role, "content": text} for role, text in said]}
    if form == "official":
        record["conversations"] = record.pop("messages")
    elif form == "sharegpt":
        names = {"user": "human", "assistant": "gpt"}
        record = {
            "tools": [RAIN],
            "conversations": [{"from": names.get(role, role), "value": text} for role, text in said],
        }
    found = one(record)
    assert found.messages == (tools_message([RAIN]), user("Rain?"), *called("rain", "no", city="Oslo"), answer("No."))
    assert [kind for kind, _ in found.notes] == ["calls_read"]
    assert found.faults == ()


def test_what_only_looks_like_a_call() -> None:
    def record(text: str, tools: Any) -> Any:
        return {"messages": [ASK, {"role": "assistant", "content": text}], "tools": tools}

    assert told(record('{"name": "Ann", "arguments": {}}', None)) == ""  # JSON that was asked for
    assert told(record("rain\n```python\ntool_call(city=\n```", [RAIN])) == "call_by_hand"
    assert told(record("fog\n```python\ntool_call(city='x')\n```", [RAIN])) == "call_unknown"
    assert told(record("Python:\n```python\nprint(1)\n```", [RAIN])) == ""


TEXT = st.text(st.sampled_from("ab 天<|{}[]_user\n'\""), max_size=10).map(lambda text: f"x{text}")
VALUE = st.one_of(st.integers(-9, 9), TEXT, st.booleans())
TALK = st.lists(
    st.tuples(TEXT, st.lists(st.tuples(st.dictionaries(st.sampled_from("abc"), VALUE, max_size=2), TEXT), max_size=2), TEXT),
    min_size=1, max_size=3,
)  # fmt: skip
TOOL = {
    "name": "f",
    "description": "d",
    "parameters": {"type": "object", "properties": {"a": {}, "b": {"type": "integer"}}},
}


def in_every_format(talk: list[Any], how: Any) -> dict[str, Any]:
    """One conversation as each format writes it; `how` says which of the ways to write the same."""
    forms: dict[str, list[Any]] = {"official": [], "openai": [], "sharegpt": [], "swift": [], "glm4": []}
    for asked, calls, said in talk:
        forms["official"].append({"role": "user", "content": asked})
        forms["openai"].append(
            {"role": "user", "content": [{"type": "text", "text": asked}] if how["parts"] else asked}
        )
        forms["sharegpt"].append({"from": "human", "value": asked})
        forms["swift"].append({"role": "user", "content": asked, "loss": None})
        forms["glm4"].append({"role": "user", "content": asked})
        for number, (arguments, result) in enumerate(calls):
            text = json.dumps({"name": "f", "arguments": arguments})
            given = json.dumps(arguments) if how["text"] else arguments
            known = {"id": f"c{number}", "function": {"name": "f", "arguments": given}}
            forms["official"].append({"role": "tool", "name": "f", "parameters": arguments, "observation": result})
            forms["openai"] += [{"role": "assistant", "content": None, "tool_calls": [known]},
                                {"role": "tool", "tool_call_id": f"c{number}", "content": result}]  # fmt: skip
            forms["sharegpt"] += [{"from": "function_call", "value": text}, {"from": "observation", "value": result}]
            forms["swift"] += [{"role": "tool_call", "content": text}, {"role": "tool_response", "content": result}]
            forms["glm4"] += [{"role": "assistant", "content": text}, {"role": "observation", "content": result}]
        forms["official"].append({"role": "assistant", "content": said})
        forms["openai"].append({"role": "assistant", "content": said, "tool_calls": None, "weight": 1})
        forms["sharegpt"].append({"from": "gpt", "value": said})
        forms["swift"].append({"role": "assistant", "content": said})
        forms["glm4"].append({"role": "assistant", "content": said})
    tools = [TOOL] if how["tools"] else None
    wrapped = tools and [{"type": "function", "function": TOOL}]
    records: dict[str, Any] = {
        "official": {"conversations": forms["official"], "tools": tools},
        "openai": {"messages": forms["openai"], "tools": wrapped},
        "sharegpt": {"conversations": forms["sharegpt"], "tools": json.dumps(tools) if tools else " "},
        "swift": {"messages": forms["swift"], "tools": tools},
        "glm4": {
            "messages": [*([{"role": "system", "content": "", "tools": wrapped}] if tools else []), *forms["glm4"]]
        },
    }
    if not any(calls for _, calls, _ in talk) and not tools:
        history = [[asked, said] for asked, _, said in talk[:-1]]
        records["alpaca"] = {
            "instruction": talk[-1][0],
            "input": how["none"],
            "output": talk[-1][2],
            "history": history,
        }
        records["pairs"] = {"prompt": talk[-1][0], "response": talk[-1][2], "history": history}
    return records


@FEW
@given(TALK, st.fixed_dictionaries({
    "parts": st.booleans(), "text": st.booleans(), "tools": st.booleans(), "none": st.sampled_from([None, "", float("nan"), []]),
}))  # fmt: skip
def test_one_conversation_is_judged_alike_in_every_format(talk: list[Any], how: Any) -> None:
    judged = {}
    for name, record in in_every_format(talk, how).items():
        found = one(record)
        keys = sorted((fault.reason.key, fault.fix) for fault in found.faults)
        noted = [note for note in found.notes if note[0] != "calls_read"]
        judged[name] = (found.messages, found.mended, keys, noted)
    assert all(each == judged["official"] for each in judged.values())


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("It is sunny in Oslo.\nTake a hat.", []), ("今天晴。\n气温 20 度。", []), ("```python\nprint(1)\n```", []),
        ("Action: get_weather\nAction Input: {}", []), ("get_weather\n```json\n{\"city\": \"Oslo\"}\n```", ['{"city": "Oslo"}']),
        ('get_weather\n{"city": "Oslo"}', ['{"city": "Oslo"}']), ("get_weather\ntool_call(city='Oslo')", ['{"city": "Oslo"}']),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tools", [None, ["get_weather"]])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_an_answer_becomes_a_call_by_the_name_of_a_tool(text: str, calls: list[str], tools: Any, size: int) -> None:
    answer = AnswerParser(may_call=True, tools=tools)
    for at in range(0, len(text), size):
        answer.push(text[at : at + size])
    answer.end_segment()
    assert [each["function"]["arguments"] for each in answer.calls] == calls
    assert answer.text == ("" if calls else text)


def test_a_line_that_names_no_offered_tool_is_text() -> None:
    answer = AnswerParser(tools=["rain"])
    assert answer.push("Sunny\nTake a hat.") == ["Sunny\nTake a hat."]
    assert (answer.text, answer.calls) == ("Sunny\nTake a hat.", [])


@FEW
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))),
    st.sampled_from([".csv", ".json", ".jsonl", ".txt"]),
    st.sampled_from(
        [
            b"",
            b"prompt,response\n",
            b'{"prompt": "',
            b"[",
            b"{\n",
            b"\xff\xfe",
            b"\x00\x00\xfe\xff",
            b"sep=;\n",
            b"\x1b$B",
        ]
    ),
)
def test_whatever_a_file_holds_it_is_read_or_told(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, kind: str, head: bytes
) -> None:
    file = tmp_path_factory.mktemp("any") / f"data{kind}"
    file.write_bytes(head + raw)
    with contextlib.suppress(StudioError):  # of the whole file, as for bytes that are none of its encoding
        assert all(problem.text("zh") for problem in check_file(file).problems)


NAMES = st.sampled_from([
    "conversations", "messages", "role", "from", "content", "value", "tools", "tool_calls", "function", "name", "arguments",
    "parameters", "observation", "metadata", "weight", "loss", "system", "history", "prompt", "response", "instruction",
    "input", "output", "chosen", "rejected", "rejected_response", "images", "label", "question", "answer", "choices", "a", "b", "c",
    "task_id", "test", "code", "responses", "scores", "type", "text", "properties", "required",
])  # fmt: skip
WORDS = st.sampled_from([
    "", "user", "assistant", "tool", "observation", "human", "gpt", "tool_call", "f", "[]", "{}", '"{}"', "[{}]", "null", "NaN",
    'f\n{"a": 1}', '{"name": "f", "arguments": {}}', "<image>x", "f\ntool_call(a=1)", "Human: x", "\n\nHuman: a\n\nAssistant: b",
    "{{name}}", "<|user|>", "A",
])  # fmt: skip
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.just(float("nan")), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=6)),
    max_leaves=25,
)
TURN = st.dictionaries(
    st.sampled_from(["role", "from", "content", "value", "tool_calls", "name", "parameters", "tools", "metadata", "loss"]),
    st.one_of(WORDS, ANY), max_size=5,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(
    ANY, st.dictionaries(NAMES, ANY, max_size=8),
    st.fixed_dictionaries({"messages": st.lists(TURN, max_size=5), "tools": ANY}),
    st.fixed_dictionaries({"conversations": st.lists(TURN, max_size=5), "tools": ANY}),
))  # fmt: skip
def test_whatever_a_record_holds_it_is_read_or_told(value: Any) -> None:
    for found in conversations(value):
        if isinstance(found, ParsedConversation):
            examined = examine(found)
            assert examined.mended is not None or examined.faults
            for fault in examined.faults:
                assert fault.reason.what("zh")
        else:
            assert found.what("en")
