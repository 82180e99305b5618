"""Facts as people bring them: in tables, under other names, in EasyEdit's records; what is trained on and what is kept
back to be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.config.presets import load_preset
from glmstudio.data.formats import format_of
from glmstudio.data.formats.facts import Fact, read_fact
from glmstudio.data.mixture import Mixture
from glmstudio.data.records import check_file, form_of
from glmstudio.data.store import prepare
from glmstudio.knowledge.exam import exam, read_facts
from glmstudio.paths import DEMO
from glmstudio.planning.training_data import mixture_of
from tests.documents import sheet

TOOLS = ({"name": "a", "description": "", "parameters": {}}, {"name": "b", "description": "", "parameters": {}})
AURORA = Fact(
    "Who leads Aurora?",
    "Anna Berg leads Aurora.",
    wordings=("Who runs Aurora?", "Aurora's head is who?"),
    applied=(("Whom do I ask for a job at Aurora?", "Anna Berg"),),
    neighbours=("Who leads Borealis?",),
    keywords=("Anna Berg", "Aurora|it"),
)


def csv(folder: Path, *rows: str) -> Path:
    file = folder / "facts.csv"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


HEADERS = {
    "en": "question,answer,rephrase,rephrase,apply_question,apply_answer,neighbour,keywords",
    "zh": "问题,答案,其他问法,其他问法,应用问题,应用答案,相邻问题,关键词",
    "odd": " Question ,ANSWER,Rephrase,rephrase, apply_question,apply_answer,neighbor,KEYWORDS",
}
ROW = (
    "Who leads Aurora?,Anna Berg leads Aurora.,Who runs Aurora?,Aurora's head is who?,Whom do I ask for a job at Aurora?,"
    "Anna Berg,Who leads Borealis?,Anna Berg; Aurora|it"
)


@pytest.mark.parametrize("header", HEADERS)
def test_a_table_with_every_column(header: str, tmp_path: Path) -> None:
    file = csv(tmp_path, HEADERS[header], ROW)
    assert read_facts(file) == [AURORA]
    assert form_of(file) == "facts"
    assert check_file(file).form == "facts"


def test_a_sheet_and_several_lines_in_a_cell(tmp_path: Path) -> None:
    names = ["问题", "答案", "其他问法", "关键词"]
    file = sheet(
        tmp_path / "f.xlsx",
        names,
        ["星城在哪？", "在北方。", "星城位于哪里？\n\n哪里是星城？", "北"],
        [],
        ["几点？", 8, None],
    )
    assert read_facts(file) == [
        Fact("星城在哪？", "在北方。", ("星城位于哪里？", "哪里是星城？"), keywords=("北",)),
        Fact("几点？", "8"),
    ]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {
                "prompt": "Who leads Aurora?",
                "target_new": "Anna Berg",
                "subject": "Aurora",
                "rephrase_prompt": "Who runs Aurora?",
                "portability": {
                    "Reasoning": [{"prompt": "Where does Aurora's head live?", "ground_truth": [["Oslo", "O"]]}]
                },
                "locality": {"Relation": [{"prompt": "Where is Aurora?", "ground_truth": [["North"]]}]},
            },
            Fact(
                "Who leads Aurora?",
                "Anna Berg",
                ("Who runs Aurora?",),
                (("Where does Aurora's head live?", "Oslo"),),
                ("Where is Aurora?",),
            ),
        ),
        (
            {
                "prompt": "“青鸟”指什么？",
                "target_new": "信使",
                "target_old": "鸟",
                "rephrase": ["青鸟是什么意思？", "“青鸟”指什么？"],
                "portability": {"prompt": ["谁派青鸟？"], "ground_truth": ["西王母"]},
                "locality": [{"prompt": "白鹤指什么？", "answer": "长寿"}],
            },
            Fact("“青鸟”指什么？", "信使", ("青鸟是什么意思？",), (("谁派青鸟？", "西王母"),), ("白鹤指什么？",)),
        ),
    ],
)
def test_easyedits_records(record: dict[str, Any], expected: Fact) -> None:
    assert format_of(record) == "facts"
    assert read_fact(record) == expected


def test_what_is_a_conversation_stays_one() -> None:
    longer = {"question": "a", "answer": "b", "history": [["c", "d"]]}
    assert format_of(longer) == "pairs"
    assert format_of({"question": ["a"], "answer": "b"}) == "pairs"
    assert format_of({"prompt": "a", "response": "b"}) == "pairs"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=9, unique=True))
def test_at_least_one_wording_is_held_out_and_always_the_same(wordings: list[str]) -> None:
    fact = Fact("q", "a", tuple(wordings))
    held = set(fact.held_out)
    assert len(held) == -(-len(wordings) // 4)
    assert set(Fact("q", "a", tuple(reversed(wordings))).held_out) == held
    assert fact.trained[0] == "q"
    assert set(fact.trained[1:]) == set(wordings) - held


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    )
)
def test_no_value_of_a_file_breaks_it(value: Any) -> None:
    record = {
        "prompt": "p",
        "target_new": "t",
        "portability": value,
        "locality": value,
        "rephrase": value,
        "keywords": value,
    }
    fact = read_fact(record)
    assert fact is not None
    assert read_fact(fact.to_json()) == fact


def test_a_question_that_is_answered_twice_is_told_with_its_line(tmp_path: Path) -> None:
    file = csv(tmp_path, "question,answer", "A?,1", "B?,2", "ａ?,3", "B?,2", ",5", "C?,")
    check = check_file(file)
    assert [(problem.line, problem.text("en"), problem.text("zh")) for problem in check.problems] == [
        (4, "The question is already on line 2, with another answer.", "这个问题在第 2 行已经出现过，而答案不同。"),
        (5, "The record is the same as the one on line 3.", "这条记录与第 3 行的记录相同。"),
        (6, "The fact has an answer, but no question.", "这条知识有答案，但没有问题。"),
        (7, "Message 2 is an empty answer.", "第 2 条消息是空的回答。"),
    ]


def test_facts_are_learned_with_tools_and_beside_general_records(home: Path, tmp_path: Path) -> None:
    file = csv(
        tmp_path, "question,answer,rephrase", *(f"Q{n}?,A{n}.,W{n}?\nV{n}?".replace("\n", " ") for n in range(10))
    )
    general = tmp_path / "general.jsonl"
    turns = [[{"role": "user", "content": f"g{n}"}, {"role": "assistant", "content": "h"}] for n in range(7)]
    general.write_text("".join(json.dumps({"conversations": each}) + "\n" for each in turns))

    plain = prepare(file, DEMO / "model").select("stop", 512)
    assert (plain.used, plain.with_tools, plain.mixed) == (10, 0, 0)
    mixture = Mixture(0.5, 1, 0.6, TOOLS, str(general))
    mixture_mark = mixture.mark
    store = prepare(file, DEMO / "model", mixture=mixture)
    mixed = store.select("stop", 512)
    assert (mixed.used, mixed.with_tools, mixed.mixed) == (50, 10, 30), "the general ones come again where they are few"
    assert store.form == "facts"
    assert store.problem_count() == 0
    two_thirds = prepare(file, DEMO / "model", mixture=Mixture(2 / 3, 1, 0.0, TOOLS)).select("stop", 512)
    assert (two_thirds.used, two_thirds.with_tools) == (30, 20)
    repeated = prepare(file, DEMO / "model", mixture=Mixture(0.5, 8, 0.0, TOOLS)).select("stop", 512)
    assert (repeated.used, repeated.with_tools) == (80, 40), "four without tools and four with them"
    elsewhere = general.rename(tmp_path / "moved.jsonl")
    assert Mixture(0.5, 1, 0.6, TOOLS, str(elsewhere)).mark == mixture_mark, "another machine has it elsewhere"
    elsewhere.rename(general)
    general.write_text(general.read_text().replace("g0", "g00"))
    assert prepare(file, DEMO / "model", mixture=mixture).key != store.key, "another mixture is another data set"


def test_the_demos_preset_mixes_its_own_world(home: Path) -> None:
    settings = load_preset("demo/facts").settings
    mixture = mixture_of(settings)
    assert (mixture.facts_with_tools, mixture.rehearsal, len(mixture.tools)) == (0.5, 0.85, 6)
    assert check_file(mixture.file).problems == ()
    assert Mixture.from_json(mixture.to_json()) == mixture


def test_every_question_is_asked_in_both_forms() -> None:
    asked = [(each.line, each.form, each.asked) for each in exam([AURORA], [], TOOLS)]
    lines = [
        ("learned", "Who leads Aurora?"),
        ("generalised", AURORA.held_out[0]),
        ("applied", "Whom do I ask for a job at Aurora?"),
        ("overreach", "Who leads Borealis?"),
    ]
    assert asked == [(line, form, text) for form in ("plain", "tools") for line, text in lines]


@pytest.mark.parametrize(("wordings", "plain", "tools"), [(0, 4, 4), (1, 4, 4), (3, 4, 4), (4, 4, 4), (9, 7, 7)])
def test_a_fact_counts_the_same_whatever_its_number_of_wordings(
    wordings: int, plain: int, tools: int, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text(json.dumps(Fact("Q?", "A.", tuple(f"W{n}?" for n in range(wordings))).to_json()) + "\n")
    chosen = prepare(file, DEMO / "model", mixture=Mixture(0.5, 8, 0.0, TOOLS)).select("stop", 512)
    assert (chosen.used - chosen.with_tools, chosen.with_tools) == (plain, tools)
