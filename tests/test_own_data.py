"""My data: uploads that are not doubled, columns that nobody knows, rows that are edited, and what the page shows."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmstudio.chat.training_examples import keep
from glmstudio.data.own import own_files, template
from glmstudio.data.own.columns import unknown_columns, use_columns
from glmstudio.data.own.record_rows import RowEdit, read_rows, save_rows
from glmstudio.data.records import Record, check_file, read_records
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.ui.chat import chat_step
from glmstudio.ui.finetune import finetune_step, form_actions
from glmstudio.ui.finetune.own import own_actions, own_view
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state.form_state import read_form
from glmstudio.ui.state.own_list import own_items, unknown_in
from glmstudio.ui.state.page_state import ChatState, FinetuneState, OwnDataState, PageState
from glmstudio.ui.state.runwatch import WATCH
from tests.documents import sheet
from tests.hostile_text import HOSTILE, harmless
from tests.waiting import until

KNOWN = "问题,答案\n星城在哪？,在北方。\n"
UNKNOWN = "编号,客户的话,我们怎么说\n1,星城在哪？,在北方。\n2,谁管港口？,林管。\n3,没有回答,\n"


def upload(form: FinetuneState, folder: Path, **files: str | bytes) -> FinetuneState:
    """The form after these files, by stem_suffix, were dropped on the page."""
    sent = []
    for place, (name, content) in enumerate(files.items()):
        file = folder / str(place) / name.replace("__", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        sent.append(SimpleNamespace(name=str(file)))
    clear_caches()
    return own_actions.take_upload(form, sent)


def act(form: FinetuneState, which: str, **data: Any) -> FinetuneState:
    clear_caches()
    return own_actions.act(form, {"act": which, **data})


def said(file: Path) -> list[tuple[str, str]]:
    """Question and answer of every record."""
    found = list(read_records(file))
    assert all(isinstance(each, Record) for each in found), found
    return [(each.messages[0].content, each.messages[-1].content) for each in found if isinstance(each, Record)]


def shown(form: FinetuneState, lang: str = "en") -> str:
    clear_caches()
    return str(own_view.render_own(lang, form))


def names() -> list[str]:
    return sorted(each.name for each in own_files.own_data())


def test_the_same_upload_is_there_once_and_another_of_its_name_gets_a_number(home: Path, tmp_path: Path) -> None:
    first = upload(FinetuneState(), tmp_path, facts__csv=KNOWN)
    assert (first.source, first.data, first.own.told) == (
        "file", str(home / "data/facts.csv"), ("ui.own.added", {"name": "facts.csv"})
    )  # fmt: skip
    again = upload(first, tmp_path, facts__csv=KNOWN)
    assert (again.data, again.own.told) == (first.data, ("ui.own.there", {"name": "facts.csv"}))
    other = upload(again, tmp_path, facts__csv=KNOWN + "谁？,林。\n")
    assert other.own.told == ("ui.own.added_other", {"name": "facts-2.csv", "taken": "facts.csv"})
    assert upload(other, tmp_path, facts__csv=KNOWN + "谁？,林。\n").data == other.data
    assert names() == ["facts-2.csv", "facts.csv"]
    assert "A different dataset is called “facts.csv” already" in shown(other)


def test_several_files_are_one_dataset_and_are_not_doubled(home: Path, tmp_path: Path) -> None:
    files = {"a__csv": KNOWN, "b__jsonl": json.dumps({"question": "q", "answer": "a"}) + "\n", "read__md": "Read me."}
    form = upload(FinetuneState(), tmp_path, **files)
    assert upload(form, tmp_path, **files).data == form.data == str(home / "data/a+2")
    assert said(Path(form.data)) == [("星城在哪？", "在北方。"), ("q", "a")]
    assert "the texts beside them are not" in shown(form)
    (item,) = own_items()
    assert (item.data.origin, len(item.data.files), item.records) == ("upload", 3, 2)
    assert shown(form).count('data-act="own-rows"') == 2, "a text has no rows"


def test_what_is_of_no_known_kind_leaves_nothing(home: Path, tmp_path: Path) -> None:
    form = upload(FinetuneState(data="before"), tmp_path, good__csv=KNOWN, bad__exe="MZ")
    assert (form.data, names()) == ("before", [])
    assert form.own.problem is not None
    assert form.own.problem.values["file"] == "bad.exe"
    many = upload(form, tmp_path, **{f"f{n}__csv": KNOWN for n in range(201)})
    assert many.own.problem is not None
    assert (many.own.problem.key, names()) == ("data.many_files", [])


@pytest.mark.parametrize("name", ["..evil $(x).csv", ".hidden.csv", "x" * 200 + ".csv", "事实 表.csv"])
def test_a_hostile_name_stays_in_its_folder(home: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(KNOWN, encoding="utf-8")
    found = own_files.add([file], shutil.copyfile)
    assert found.path.parent == home / "data"
    assert names() == [found.path.name]
    assert said(found.path) == [("星城在哪？", "在北方。")]


def test_the_list_tells_records_origin_and_last_use_and_what_a_run_uses_stays(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WATCH, "advance", lambda: None)  # it would start what waits, which is no whole run here
    form = upload(FinetuneState(), tmp_path, facts__csv=KNOWN)
    keep({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "")
    run = home / "runs/mine"
    write_json(run / "run.json", {"settings": {"data": form.data}, "created": 1.0, "run_id": "x"})
    write_json(run / "status.json", {"state": "queued"})
    write_json(home / "state/queue.json", ["mine"])
    page = shown(form)
    assert "Records: 1" in page
    assert "Uploaded " in page
    assert "Saved in the chat, last on " in page
    assert "last used by the run mine" in page

    refused = act(form, "own-delete", name="facts.csv")
    assert refused.own.problem is not None
    assert "is in use by the run mine" in refused.own.problem.what()
    assert names() == ["chat.jsonl", "facts.csv"]
    write_json(run / "status.json", {"state": "stopped", "ended": 2.0})
    gone = act(form, "own-delete", name="facts.csv")
    assert (gone.data, gone.picked, names()) == ("", True, ["chat.jsonl"])
    assert act(gone, "own-use", name="chat.jsonl").data == str(home / "data/chat.jsonl")


def test_a_large_dataset_is_counted_in_the_background(home: Path, tmp_path: Path) -> None:
    upload(FinetuneState(), tmp_path, many__csv="问题,答案\n" + "".join(f"第{n}号？,{n}。\n" for n in range(6000)))
    clear_caches()
    assert own_items()[0].records in (None, 6000)

    def counted() -> bool:
        clear_caches()
        return own_items()[0].records == 6000

    until(counted)


@pytest.mark.parametrize("kind", ["csv", "xlsx", "json", "jsonl"])
def test_unknown_columns_are_asked_and_become_records(home: Path, tmp_path: Path, kind: str) -> None:
    rows = list(csv.reader(io.StringIO(UNKNOWN)))
    records = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    content = {
        "csv": UNKNOWN.encode(),
        "xlsx": sheet(tmp_path / "made.xlsx", *map(tuple, rows)).read_bytes(),
        "json": json.dumps(records).encode(),
        "jsonl": "".join(json.dumps(each) + "\n" for each in records).encode(),
    }[kind]
    form = upload(FinetuneState(), tmp_path, **{f"facts__{kind}": content})
    clear_caches()
    problem = read_form(form).problem
    assert problem is not None
    assert problem.key == "ui.own.columns_first"
    page = shown(form, "zh")
    assert "尚未选择列" in page
    assert "没有认出“facts." in page
    assert "第 2 列：客户的话" in page
    assert "林管。" in page

    same = act(form, "own-columns", fields={"question": "2", "answer": "2"}, ticked=["named"])
    assert same.own.problem is not None
    done = act(form, "own-columns", fields={"question": "1", "answer": "2"}, ticked=["named"])
    assert done.data == str(home / "data/facts.jsonl")
    assert said(Path(done.data)) == [("星城在哪？", "在北方。"), ("谁管港口？", "林管。")]
    assert done.own.told == ("ui.own.columns.taken_some", {"n": 2, "left": 1})
    assert names() == ["facts.jsonl"]
    assert unknown_in(Path(done.data)) is None
    assert upload(done, tmp_path, **{f"facts__{kind}": content}).data == done.data, "the same upload is not asked again"


def test_a_file_elsewhere_stays_as_it_is(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "facts.csv"
    file.write_text(UNKNOWN, encoding="utf-8")
    found = unknown_columns(file)
    assert found is not None
    assert use_columns(found, 1, 2, named=True).file == home / "data/facts.jsonl"
    assert file.read_text(encoding="utf-8") == UNKNOWN


def test_what_is_known_in_another_way_is_not_asked_for_columns(home: Path) -> None:
    for number, record in enumerate([*SHAPES, *OTHERS[-2:], {"text": {"nested": 1}}]):
        assert unknown_columns(own_file(home, [record, record], f"{number}.jsonl")) is None


@pytest.mark.parametrize(
    ("header", "guess"),
    [
        ("编号,客户问题,标准答案", (1, 2)),
        ("User question,Our reply,id", (0, 1)),
        ("回答,备注,提问内容", (2, 0)),
        ("c,d", (0, 1)),
        ("no.,topic,e,f", (2, 3)),
        ("x,answer text", (0, 1)),
    ],
)
def test_the_columns_are_guessed_by_their_names(tmp_path: Path, header: str, guess: tuple[int, int]) -> None:
    file = tmp_path / "facts.csv"
    cells = ["1" * (place + 1) for place, _ in enumerate(header.split(","))]
    file.write_text(f"{header}\n{','.join(cells)}\n", encoding="utf-8")
    found = unknown_columns(file)
    assert found is not None
    assert found.guessed() == guess


QA = {"question": "q", "answer": "a"}
SHAPES = [
    QA, {"prompt": "q", "response": "a"}, {"指令": "q", "输出": "a"}, {"instruction": "q", "input": "", "output": "a"},
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    {"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
]  # fmt: skip
OTHERS = [
    QA | {"rephrase": ["qq"]}, QA | {"system": "s"}, {"instruction": "q", "input": "more", "output": "a"},
    {"messages": [{"role": "system", "content": "s"}, *SHAPES[4]["messages"]]},
    {"tools": [], "conversations": SHAPES[5]["conversations"]}, {"other": 1},
    {"question": "q", "choices": ["x", "y"], "answer": "x"}, {"prompt": "q", "chosen": "a", "rejected": "b"},
]  # fmt: skip


def own_file(home: Path, records: list[Any], name: str = "mine.jsonl") -> Path:
    file = home / "data" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")
    return file


@pytest.mark.parametrize("shape", SHAPES)
def test_a_question_and_its_answer_are_edited_in_any_form(home: Path, shape: dict[str, Any]) -> None:
    rows = read_rows(file := own_file(home, [shape, shape]))
    assert (rows.row(0).question, rows.row(0).answer, rows.row(0).json) == ("q", "a", None)
    save_rows(file, rows.mark, RowEdit({1: {"question": "q2", "answer": "b\r\nc"}}, added=[("new", "row")]))
    assert said(file) == [("q", "a"), ("q2", "b\nc"), ("new", "row")]
    assert check_file(file).form != "mixed"


@pytest.mark.parametrize("record", OTHERS)
def test_what_is_more_than_that_is_shown_as_json_and_checked(home: Path, record: dict[str, Any]) -> None:
    rows = read_rows(file := own_file(home, [QA, record]))
    assert json.loads(rows.row(1).json or "") == record
    with pytest.raises(StudioError, match="Row 2 is not a JSON object"):
        save_rows(file, rows.mark, RowEdit({1: {"json": "{"}, 0: {"answer": "lost?"}}))
    assert read_rows(file).lines == rows.lines
    save_rows(file, rows.mark, RowEdit({1: {"json": json.dumps(QA)}}))
    assert [json.loads(line) for line in read_rows(file).lines] == [QA, QA]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from([*SHAPES, *OTHERS]), min_size=1, max_size=8),
    st.dictionaries(st.integers(0, 9), st.text(max_size=9), max_size=3),
    st.sets(st.integers(0, 9), max_size=3),
)
def test_an_edit_changes_what_it_names_and_nothing_else(
    home: Path, records: list[Any], changed: dict[int, str], deleted: set[int]
) -> None:
    rows = read_rows(file := own_file(home, records))
    left = [line for number, line in enumerate(rows.lines) if number not in deleted]
    edit = RowEdit({number: {"answer": text} for number, text in changed.items()}, frozenset(deleted))
    if not left:
        with pytest.raises(StudioError, match="must keep at least one row"):
            save_rows(file, rows.mark, edit)
        return
    save_rows(file, rows.mark, edit)
    after, places = read_rows(file).lines, [number for number in range(len(rows.lines)) if number not in deleted]
    assert len(after) == len(left)
    assert [now for now, number in zip(after, places, strict=True) if number not in changed] == [
        rows.lines[number] for number in places if number not in changed
    ]


@pytest.mark.parametrize("kind", ["csv", "xlsx", "json"])
def test_saving_the_rows_of_a_table_makes_it_jsonl(home: Path, tmp_path: Path, kind: str) -> None:
    content = {
        "csv": KNOWN.encode("gb18030"),
        "xlsx": sheet(tmp_path / "made.xlsx", ("问题", "答案"), ("星城在哪？", "在北方。")).read_bytes(),
        "json": json.dumps([{"问题": "星城在哪？", "答案": "在北方。"}]).encode(),
    }[kind]
    form = upload(FinetuneState(), tmp_path, **{f"facts__{kind}": content})
    form = act(form, "own-rows", file=f"facts.{kind}")
    assert f"“facts.jsonl” in the place of “facts.{kind}”" in shown(form)
    form = act(
        form, "row-save", fields={"row.0.answer": "在南方。", "row.new0.question": "谁？", "row.new0.answer": "林。"}
    )
    assert (form.own.problem, form.data, names()) == (None, str(home / "data/facts.jsonl"), ["facts.jsonl"])
    assert said(Path(form.data)) == [("星城在哪？", "在南方。"), ("谁？", "林。")]
    again = upload(form, tmp_path, **{f"facts__{kind}": content})
    assert again.data == str(home / f"data/facts.{kind}"), "what was edited is not what was uploaded"


def test_a_change_from_elsewhere_is_noticed_and_nothing_is_lost(home: Path) -> None:
    file = own_file(home, [QA, QA | {"question": "second"}])
    form = act(FinetuneState(source="file", data=str(file)), "own-rows", file="mine.jsonl")
    keep({"messages": [{"role": "user", "content": "third"}, {"role": "assistant", "content": "3"}]}, "mine")
    before = file.read_bytes()
    typed = {"row.0.answer": "typed"}
    refused = act(form, "row-save", fields=typed)
    assert refused.own.problem is not None
    assert (refused.own.problem.key, file.read_bytes()) == ("data.rows_changed", before)
    saved = act(refused, "row-save", fields=typed)
    assert saved.own.problem is None
    assert said(file) == [("q", "typed"), ("second", "a"), ("third", "3")]


def test_every_button_saves_what_was_typed_and_long_sets_come_page_by_page(home: Path) -> None:
    file = own_file(home, [{"question": f"q{n}", "answer": f"a{n}"} for n in range(60)])
    form = act(FinetuneState(source="file", data=str(file)), "own-rows", file="mine.jsonl")
    assert shown(form).count("<textarea") == 50
    form = act(form, "row-page", row="25", fields={"row.3.answer": "typed"})
    assert (form.own.first, said(file)[3]) == (25, ("q3", "typed"))
    form = act(form, "row-delete", row="30", fields={"row.31.answer": "also"})
    assert [answer for _, answer in said(file)[29:32]] == ["a29", "also", "a32"]
    form = act(form, "row-page", row="99")
    assert "new row" in shown(form)
    half = act(form, "own-close", fields={"row.new0.question": "only"})
    assert (half.own.rows, half.own.problem is not None) == (str(file), True)
    assert act(form, "own-close", fields={}).own.rows == ""


def test_what_was_saved_stays_saved_where_the_action_itself_is_refused(home: Path) -> None:
    file = own_file(home, [QA, QA | {"question": "second"}])
    form = act(FinetuneState(source="file", data=str(file)), "own-rows", file="mine.jsonl")
    refused = act(form, "own-use", name="gone", fields={"row.0.answer": "one"})
    assert refused.own.problem is not None
    again = act(refused, "row-save", fields={"row.0.answer": "two"})
    assert (again.own.problem, said(file)[0]) == (None, ("q", "two"))


def test_start_saves_the_rows_first_and_shows_the_plan_again(home: Path) -> None:
    file = own_file(home, [QA, QA | {"question": "second"}])
    form = act(FinetuneState(source="file", data=str(file)), "own-rows", file="mine.jsonl")
    after = form_actions.take_typed(form, json.dumps({"row.0.answer": "typed"}))
    assert after.form_problem is not None
    assert (after.form_problem.key, said(file)[0]) == ("ui.own.rows_saved", ("q", "typed"))


@pytest.mark.parametrize("name", ["notes.md", "broken.csv", "../../etc/passwd", "gone.jsonl"])
def test_what_has_no_rows_says_so(home: Path, name: str) -> None:
    own_file(home, [], "notes.md").write_text("Some text.")
    own_file(home, [], "broken.csv").write_text("问题,答案\n一\n二,2\n", encoding="utf-8")
    form = act(FinetuneState(source="file"), "own-rows", file=name)
    assert form.own.problem is not None
    assert form.own.problem.key.startswith(("data.rows_", "data.not_own"))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_templates_are_data_that_can_be_trained_on(tmp_path: Path, lang: str) -> None:
    table, talk = tmp_path / "t.csv", tmp_path / "t.jsonl"
    table.write_bytes(template.table(lang))
    talk.write_bytes(template.conversations(lang))
    assert table.read_bytes().startswith(b"\xef\xbb\xbf")
    for file in (table, talk):
        check = check_file(file)
        assert (check.records, check.problems) == (2, ())
    page = shown(FinetuneState(source="file"), lang)
    assert f'download="{"template" if lang == "en" else "模板"}.csv"' in page


def test_train_on_it_opens_the_step_with_the_example_as_data(home: Path) -> None:
    file = keep({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "mine")
    chat = ChatState(told=("ui.chat.kept", {"file": str(file)}))
    assert 'data-act="train-kept" data-go="finetune"' in chat_step._render_problem("en", chat)
    after = chat_step.act_kept(PageState(chat=chat), {"act": "train-kept", "go": "finetune"})
    assert (after.finetune.source, after.finetune.data, after.finetune.picked) == ("file", str(file), True)


def test_the_path_box_follows_a_choice_and_never_what_is_typed(home: Path) -> None:
    picked = FinetuneState(source="file", data="/a", picked=True)
    assert finetune_step.remember_form(picked, "file", "/a", "").picked
    assert not finetune_step.remember_form(picked, "file", "/ab", "").picked


def test_hostile_cells_and_names_are_text(home: Path) -> None:
    text = HOSTILE
    file = own_file(home, [{"question": text, "answer": text}])
    form = FinetuneState(
        source="file", data=str(file), own=OwnDataState(rows=str(file), told=("ui.own.deleted", {"name": text}))
    )
    assert harmless(shown(form))
    file.write_text(json.dumps({f"a{text}": text, "b": text}) + "\n", encoding="utf-8")
    assert harmless(shown(form))
