"""Facts on the page before they are learned: the table, files with other columns, wordings, what the model knows."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from glmstudio.chat.terminal_chat import own_server
from glmstudio.data.formats.facts import Fact
from glmstudio.errors import StudioError
from glmstudio.knowledge.exam import read_facts
from glmstudio.knowledge.table import draft, known, row_faults, sheet
from glmstudio.knowledge.table.fact_table import LONGEST_CELL, MOST_ROWS, Row, Table
from glmstudio.knowledge.wordings import paraphrase
from glmstudio.knowledge.wordings.paraphrase import Loaded, proposals, usable
from glmstudio.models import ready_model
from glmstudio.paths import FACTS
from glmstudio.ui.finetune import finetune_step, review, teach_actions, teach_view
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state import ways
from glmstudio.ui.state.form_state import read_form, settings_of
from glmstudio.ui.state.page_state import FinetuneState, PageState
from tests.hostile_text import HOSTILE, harmless
from tests.waiting import until

FACTS_WAY = FinetuneState(source="facts")
TWENTY = "".join(f"第{n}号灯塔叫什么？\t第{n}号灯塔叫星光{n}。\n" for n in range(20))


def do(act: str, view: FinetuneState = FACTS_WAY, **data: Any) -> FinetuneState:
    clear_caches()
    return teach_actions.act(view, {"act": act, "fields": {}, **data})


def type_in(**fields: str) -> FinetuneState:
    return do("facts", fields={f"fact.{name.replace('_', '.', 1)}": text for name, text in fields.items()})


def key(error: StudioError | None) -> str | None:
    return error.key if error else None


def rows() -> list[tuple[str, str]]:
    return [(row.question, row.answer) for row in draft.table().rows]


def test_twenty_facts_are_pasted_saved_and_become_the_data_of_the_run(home: Path) -> None:
    assert key(read_form(FACTS_WAY).problem) == "ui.teach.none_saved"
    pasted = do("paste", at="fact.1.question", text=TWENTY)
    assert (len(rows()), pasted.facts.told) == (20, ("ui.teach.pasted", {"n": 20}))
    assert "Save and use 20 facts" in teach_view.render_facts("en", pasted)
    do("save-facts")
    file = draft.saved_file()
    assert file is not None
    assert len(read_facts(file)) == 20
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    clear_caches()
    found = read_form(FACTS_WAY)
    assert found.preset is not None
    assert found.preset.name == "demo/facts"
    assert found.settings is not None
    assert (found.settings.data, found.settings.facts_with_tools) == (str(file), 0.5)
    until(lambda: (clear_caches(), read_form(FACTS_WAY).plan)[1])
    said = review.render_plan("en", FACTS_WAY), review.render_plan("zh", FACTS_WAY)
    assert "steps, 6 epochs over 1,067 conversations, 907 of them general" in said[0]
    assert "把 1,067 条对话训练 6 轮，其中 907 条是通用对话" in said[1]
    assert "20 facts saved" in teach_view.render_facts("en", FACTS_WAY)


def test_what_was_typed_survives_a_restart_and_is_saved_by_start_itself(home: Path) -> None:
    type_in(**{"1_question": "Who?", "1_answer": "Ann."})
    draft._known.clear()
    assert rows() == [("Who?", "Ann.")]
    typed = json.dumps({"fact.1.answer": "Ann Lee.", "find": "x", "column.0": "answer"})
    after = finetune_step.start_from_form(PageState(finetune=FACTS_WAY), "facts", "", "", typed)
    assert key(after.finetune.form_problem) == "ui.teach.saved_now"
    assert read_facts(draft.saved_file() or "")[0].answer == "Ann Lee."
    assert ways.remembered() == "", "nothing was switched"
    finetune_step.remember_form(FinetuneState(preset="demo/lora"), "facts", "", "")
    assert ways.remembered() == "facts"


def test_the_way_brings_its_preset_and_takes_it_away_again(home: Path) -> None:
    taught = finetune_step.remember_form(FinetuneState(preset="demo/lora", changes=(("steps", "5"),)), "facts", "", "")
    assert (taught.preset, taught.changes) == ("", ())
    assert settings_of(taught).best_by == "facts"
    back = finetune_step.remember_form(taught, "sample", "", "")
    clear_caches()
    assert read_form(back).preset.name == "demo/ptuning_v2"


def test_a_row_is_edited_left_out_taken_again_and_deleted(home: Path) -> None:
    do("paste", at="fact.1.question", text=TWENTY)
    type_in(**{"2_answer": "Other.", "999_answer": "nobody's", "2_nonsense": "x"})
    assert rows()[1][1] == "Other."
    do("leave", row="3")
    do("delete", row="1")
    assert len(row_faults.learned(draft.table())) == 18
    assert 'class="gs-fact gs-off"' in teach_view.render_facts("en", FACTS_WAY)
    do("take-all")
    assert len(row_faults.learned(draft.table())) == 19
    do("clear")
    assert rows() == []


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a\tb\r\nc\td\r\n", [["a", "b"], ["c", "d"]]),
        ('a\t"b\nsays ""no"""\nc\td', [["a", 'b\nsays "no"'], ["c", "d"]]),
        ('a\t"b\nc\td', [["a", '"b'], ["c", "d"]]),
        ("one\ntwo", [["one"], ["two"]]),
        ("\n\n", []),
    ],
)
def test_cells_of_a_spreadsheet(text: str, cells: list[list[str]]) -> None:
    assert sheet.pasted(text) == cells


def test_pasted_names_of_columns_are_understood_and_not_learned(home: Path) -> None:
    do("paste", at="fact.1.question", text="答案\t问题\t其他问法\t备注\n甲\t谁？\t是谁？\tx\n乙\t哪？\t\ty\n")
    assert rows() == [("谁？", "甲"), ("哪？", "乙")]
    assert draft.table().rows[0].wordings == "是谁？"
    do("paste", at="fact.2.answer", text="丙\n丁")
    assert rows() == [("谁？", "甲"), ("哪？", "丙"), ("", "丁")]


def test_problems_stand_beside_their_rows_and_both_are_named(home: Path) -> None:
    for number, (question, answer) in enumerate(
        [("Who?", "Ann."), ("", "Alone."), ("Where?", " "), ("who？", "Bob."), ("Who?", "Ann."), ("When?", "Now.")], 1
    ):
        type_in(**{f"{number}_question": question, f"{number}_answer": answer})
    said = {number: error.what("en") for number, error in row_faults.faults(draft.table()).items()}
    assert said == {
        1: "Row 4 has the same question and another answer. This one is learned.",
        2: "An answer without a question.",
        3: "A question without an answer.",
        4: "Row 1 has the same question and another answer. This one is not learned.",
        5: "Row 1 has the same fact. It is learned once.",
    }
    assert [fact.answer for fact in row_faults.learned(draft.table())] == ["Ann.", "Now."]
    assert "第 1 行问的相同" in teach_view.render_facts("zh", FACTS_WAY)


def test_a_fact_over_the_limit_is_told_with_its_tokens(home: Path) -> None:
    type_in(**{"1_question": "Who?", "1_answer": "long " * 900, "2_question": "Where?", "2_answer": "Here."})
    html = teach_view.render_facts("en", FACTS_WAY)
    assert "longer than the limit of 512" in html
    assert html.count("longer than the limit") == 1


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_hostile_and_endless_text_stays_text_and_bounded(home: Path, lang: str) -> None:
    mixed = f"{HOSTILE}\u202e\x00</textarea><b>{'x' * 1_000_000}"
    type_in(**{"1_question": HOSTILE, "1_answer": mixed, "1_wordings": f"{HOSTILE}\n\ud800"})
    do("wordings", ticked=["turned"])
    html = teach_view.render_facts(lang, do("more", row="1"))
    assert harmless(html)
    assert "<b>x" not in html
    assert len(draft.table().rows[0].answer) == LONGEST_CELL - 1
    for data in (
        {"at": "x"},
        {"at": "fact.x.question"},
        {"at": "fact.1.__class__"},
        {"row": "9" * 400},
        {"place": "-1"},
    ):
        for act in ("paste", "accept", "delete", "page", "more", "columns", "nonsense"):
            assert do(act, text="a\tb", **data).facts.problem is None


def test_the_table_takes_ten_thousand_facts_and_says_when_it_is_full(home: Path) -> None:
    text = "".join(f"question {n}\tanswer {n}\n" for n in range(MOST_ROWS))
    view = do("paste", at="fact.1.question", text=text)
    html = teach_view.render_facts("en", view)
    teach_view.render_facts("en", view)
    assert html.count("<textarea") == 3 * teach_view.SHOWN
    assert "Rows 1 to 25 of 10,000" in html
    found = do("facts-find", fields={"find": "QUESTION 9876"})
    assert "answer 9876</textarea>" in teach_view.render_facts("en", found)
    assert key(do("paste", at="fact.10001.question", text="a\tb").facts.problem) == "knowledge.table_full"
    do("save-facts")
    assert len(read_facts(draft.saved_file() or "")) == MOST_ROWS


def test_too_much_text_is_refused_whole(home: Path) -> None:
    cell = "x" * LONGEST_CELL
    view = do("paste", at="fact.1.question", text="".join(f"{cell}\t{cell}\n" for _ in range(201)))
    assert key(view.facts.problem) == "knowledge.table_large"
    assert rows() == []


def test_saved_files_never_change_and_old_ones_go(home: Path) -> None:
    files = []
    for number in range(8):
        type_in(**{"1_question": "Who?", "1_answer": f"Ann {number}."})
        do("save-facts")
        files.append(draft.saved_file())
    assert len(set(files)) == 8
    assert [file.exists() for file in files].count(True) == 6
    assert draft.is_saved()
    type_in(**{"1_answer": "Ann."})
    assert not draft.is_saved()


def workbook(file: Path, lines: list[list[Any]]) -> Path:
    book = Workbook()
    for line in lines:
        book.active.append(line)
    book.save(file)
    return file


def test_a_file_opens_in_the_table(home: Path, tmp_path: Path) -> None:
    view = teach_actions.take_file(FACTS_WAY, FACTS)
    assert view.facts.told == ("ui.teach.added", {"n": 20})
    assert [row.fact for row in draft.table().rows] == read_facts(FACTS), "nothing of a fact is lost"
    again = teach_actions.take_file(FACTS_WAY, FACTS)
    assert again.facts.told == ("ui.teach.added_some", {"n": 0, "there": 20})
    file = workbook(tmp_path / "事实.xlsx", [["序号", "问题", "答案"], [1, "谁？", "甲。"], [2, "", "乙。"]])
    teach_actions.take_file(FACTS_WAY, file)
    assert rows()[-1] == ("谁？", "甲。")
    broken = tmp_path / "broken.xlsx"
    broken.write_bytes(b"PK\x03\x04 no workbook")
    for file in (broken, tmp_path / "none.csv", Path("/dev/null")):
        problem = teach_actions.take_file(FACTS_WAY, file).facts.problem
        assert problem is not None
        assert problem.fix("zh")


@pytest.mark.parametrize("kind", [".xlsx", ".csv", ".jsonl"])
def test_other_columns_are_asked_for(home: Path, tmp_path: Path, kind: str) -> None:
    lines = [
        ["Nr", "Stichwort", "Text", "Auch", "<b>"],
        ["1", "Who?", "Ann.", "Who then?", "x"],
        ["2", "Where?", "Here.", "", ""],
    ]
    file = tmp_path / f"other{kind}"
    if kind == ".xlsx":
        workbook(file, lines)
    elif kind == ".csv":
        with file.open("w", newline="") as out:
            csv.writer(out, delimiter=";").writerows(lines)
    else:
        file.write_text("".join(json.dumps(dict(zip(lines[0], line, strict=True))) + "\n" for line in lines[1:]))
    assert teach_actions.take_file(FACTS_WAY, file).facts.problem is None
    html = teach_view.render_facts("zh", FACTS_WAY)
    assert html.count("<select") == 5
    assert "请指出每一列是什么" in html
    assert "<b>" not in html.partition("<tbody>")[2]
    wrong = do("columns", fields={"column.1": "question"}, ticked=["named"])
    assert key(wrong.facts.problem) == "knowledge.which_column"
    chosen = {"column.1": "question", "column.2": "answer", "column.3": "wordings"}
    told = do("columns", fields=chosen, ticked=["named"])
    assert told.facts.told == ("ui.teach.added", {"n": 2})
    assert rows() == [("Who?", "Ann."), ("Where?", "Here.")]
    assert draft.table().rows[0].fact == Fact("Who?", "Ann.", ("Who then?",))
    assert sheet.waiting() is None


def test_wordings_are_proposed_changed_accepted_and_dropped(home: Path) -> None:
    do(
        "paste",
        at="fact.1.question",
        text="Who is the mayor of Aurora?\tAda Lin.\n谁是港口的主管？\t林达是港口的主管。\n",
    )
    do("wordings", ticked=["turned"])
    first, second = draft.table().rows
    assert [each.question for each in first.proposed][:1] == ["Who is Aurora's mayor?"]
    assert row_faults.learned(draft.table())[0].wordings == (), "nothing is added without approval"
    turned = [each for each in second.proposed if each.answer]
    do("accept", row="1", place="0", fields={"proposed.1.0": "Who leads Aurora?"})
    assert draft.table().rows[0].wordings == "Who leads Aurora?"
    assert len(draft.table().rows[0].proposed) == len(first.proposed) - 1
    do("drop-row", row="1")
    do("accept-all")
    table = draft.table()
    assert not any(row.proposed for row in table.rows)
    assert len(table.rows) == 2 + len(turned)
    assert [(row.question, row.answer) for row in table.rows[2:]] == [(each.question, each.answer) for each in turned]
    assert 'data-act="wordings"' not in teach_view.render_facts("en", FACTS_WAY) or turned


def test_lines_of_a_model_are_taken_only_where_they_are_wordings() -> None:
    written = (
        "Sure! Here are three ways:\n1. Who is Aurora's mayor?\n2) “Who leads the town of Aurora?”\n- who is the mayor of aurora\n"
        "* Ada Lin is the mayor of Aurora.\nWhat is the weather like?\n谁是市长？\n"
        + "Who is the mayor of Aurora "
        * 40
    )
    found = usable("Who is the mayor of Aurora?", "Ada Lin", written)
    assert found == ["Who is Aurora's mayor?", "Who leads the town of Aurora?"]
    assert usable("谁管理港口？", "林达", "1、港口由谁管理？\n林达管理港口。\n谁管理港口") == ["港口由谁管理？"]


def test_a_model_that_writes_nonsense_leaves_the_patterns(home: Path) -> None:
    row = Row(1, "Who is the mayor of Aurora?", "Ada Lin.")
    found = proposals(row, write=lambda _: "no idea\n" * 1000, turned=False)
    assert found[0].question == "Who is Aurora's mayor?"
    assert len(found) == paraphrase.MOST

    def broken(_: str) -> str:
        raise StudioError("chat.unreachable")

    paraphrase.WRITING.start([row], broken, lambda each, write: teach_actions._propose([each], write, turned=False))
    until(lambda: not paraphrase.WRITING.running)
    assert key(paraphrase.WRITING.problem) == "chat.unreachable"


@pytest.mark.slow
def test_the_loaded_model_is_asked_for_wordings(home: Path) -> None:
    with own_server("demo", []) as served:
        model = Loaded(served.port, served.models[0], served.key)
        assert isinstance(model.write("Who is the mayor of Aurora?"), str)
        found = proposals(Row(1, "Who is the mayor of Aurora?", "Ada Lin."), write=model.write, turned=False)
    assert len(found) == paraphrase.MOST
    with pytest.raises(StudioError, match="does not answer"):
        model.write("Who?")


@pytest.mark.slow
def test_the_model_is_asked_first_and_what_it_knows_can_be_left_out(home: Path) -> None:
    do("paste", at="fact.1.question", text="What is your name?\tDemo\tx\n第3号灯塔叫什么？\t星光3\n")
    model = ready_model("demo")
    assert "Ask the model first" in teach_view.render_facts("en", FACTS_WAY)
    do("ask")
    until(lambda: not known.asking(model).look().running)
    assert known.asking(model).look().whole
    said = known.answers(model, draft.table())
    assert set(said) == {1, 2}
    type_in(**{"1_answer": said[1][0]})
    do("ask")
    until(lambda: not known.asking(model).look().running)
    html = teach_view.render_facts("en", FACTS_WAY)
    assert "1 of 2 are already known." in html
    do("leave-known")
    assert [row.left_out for row in draft.table().rows] == [True, False]
    assert "不学已经知道" not in teach_view.render_facts("zh", FACTS_WAY)


@pytest.mark.slow
def test_asking_is_cancelled_and_goes_on(home: Path) -> None:
    do("paste", at="fact.1.question", text="".join(f"Question number {n}?\tAnswer {n}.\n" for n in range(300)))
    model = ready_model("demo")
    do("ask")
    do("ask-stop")
    until(lambda: not known.asking(model).look().running)
    look = known.asking(model).look()
    assert not look.whole
    do("ask")
    until(lambda: known.asking(model).look().done > look.done)
    do("ask-stop")
    until(lambda: not known.asking(model).look().running)


def test_rows_survive_json_whatever_is_in_them() -> None:
    row = Row(3, "a", "b", "c\nd", left_out=True, proposed=(paraphrase.Proposal("x", "y"),))
    assert Row.from_json(json.loads(json.dumps(row.to_json()))) == row
    for value in (None, [], {}, {"number": "1"}, {"number": True}):
        assert Row.from_json(value) is None
    assert Row.from_json({"number": 1, "question": [1], "proposed": [["a"], 3], "left_out": "x"}) == Row(1)
    assert Table().row(1) is None
