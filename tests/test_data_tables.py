"""Questions and answers as people have them: under Chinese and other usual names, in CSV, JSON and Excel."""

from __future__ import annotations

import datetime as dt
import json
import zipfile
from pathlib import Path

import pytest

from glmstudio.data.formats.plain import QUESTION_AND_ANSWER
from glmstudio.data.readers import tables
from glmstudio.data.records import Problem, check_file, read_records
from glmstudio.errors import StudioError
from glmstudio.families.message import Message
from tests.documents import sheet

PAIRS = [
    ("问题", "答案"), ("问", "答"), ("提问", "回答"), ("指令", "输出"), ("Q", "A"), ("q", "a"), ("问题", "回答"),
    ("Question", "Answer"), ("Input", "Output"), ("输入", " 输出"), (" 问题 ", "答案"), ("\ufeff问题", "答案"), ("Ｑ", "Ａ"), ("Prompt", "Response"),
]  # fmt: skip
SAID = (Message("user", "星城在哪？"), Message("assistant", "在北方。", trained=True))


def write(folder: Path, kind: str, names: tuple[str, ...], *rows: tuple[str, ...]) -> Path:
    file = folder / f"facts.{kind}"
    if kind == "xlsx":
        return sheet(file, names, *rows)
    if kind == "csv":
        file.write_text("".join(",".join(row) + "\n" for row in (names, *rows)), encoding="utf-8")
    else:
        records = [dict(zip(names, row, strict=True)) for row in rows]
        text = json.dumps(records) if kind == "json" else "".join(json.dumps(each) + "\n" for each in records)
        file.write_text(text, encoding="utf-8")
    return file


def messages(file: Path) -> list[tuple[int, tuple[Message, ...]]]:
    found = list(read_records(file))
    assert not [each for each in found if isinstance(each, Problem)]
    return [(each.line, each.messages) for each in found if not isinstance(each, Problem)]


@pytest.mark.parametrize("kind", ["csv", "xlsx", "json", "jsonl"])
@pytest.mark.parametrize("names", PAIRS)
def test_question_and_answer_under_every_usual_name(kind: str, names: tuple[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, kind, names, ("星城在哪？", "在北方。"))
    assert [said for _, said in messages(file)] == [SAID]


def test_an_instruction_with_its_input_in_chinese(tmp_path: Path) -> None:
    file = write(tmp_path, "csv", ("指令", "输入", "输出"), ("翻译", "star", "星"))
    assert messages(file) == [(2, (Message("user", "翻译\nstar"), Message("assistant", "星", trained=True)))]


@pytest.mark.parametrize(("kind", "line"), [("csv", 1), ("xlsx", 1), ("json", 1), ("jsonl", 1)])
def test_unknown_columns_are_named_with_those_that_are_known(kind: str, line: int, tmp_path: Path) -> None:
    file = write(tmp_path, kind, ("城市", "人口"), ("星城", "5"))
    said = {
        True: "The columns of the table are 城市, 人口; no question and answer were recognised. Name two of them like one of "
        f"these pairs: {QUESTION_AND_ANSWER}.",
        False: "The record has the fields 城市, 人口; neither “conversations” nor “messages” nor a question and an answer "
        f"were recognised. Known pairs: {QUESTION_AND_ANSWER}.",
    }[kind in ("csv", "xlsx")]
    assert [(each.line, each.text()) for each in check_file(file).problems] == [(line, said)]
    assert "问题, 答案" in QUESTION_AND_ANSWER


def test_an_excel_sheet_as_people_leave_it(tmp_path: Path) -> None:
    rows = [
        (None, None),
        ("序号", "问题", "答案", None),
        (1, "When?", dt.datetime(2024, 5, 1)),  # noqa: DTZ001  a sheet knows no zone
        (2, "How many?", 42.0),
        (None, None, None),
        (3, "How much?", 4.5, None),
        (4, "True?", True),
        (5, "Which of the two\nis it?", "=1+1"),
    ]
    file = sheet(tmp_path / "facts.xlsx", *rows)
    found = check_file(file)
    assert (found.records, [(each.line, each.text()) for each in found.problems]) == (
        4, [(8, "Message 2 is an empty answer.")],  # a formula that no program has worked out
    )  # fmt: skip
    assert [(each.line, each.messages[1].content) for each in read_records(file) if not isinstance(each, Problem)] == [
        (3, "2024-05-01"), (4, "42"), (6, "4.5"), (7, "True"), (8, ""),
    ]  # fmt: skip


def test_a_workbook_that_is_none_is_told_so(tmp_path: Path) -> None:
    broken = tmp_path / "a.xlsx"
    whole = sheet(tmp_path / "whole.xlsx", ("问题", "答案"), ("a", "b")).read_bytes()
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w"):
        pass
    for content in (b"", b"not a zip", whole[: len(whole) // 2], empty.read_bytes(), b"\xd0\xcf\x11\xe0" * 200):
        broken.write_bytes(content)
        with pytest.raises(StudioError) as error:
            check_file(broken)
        assert str(error.value) == (
            f"The file {broken} cannot be read as an Excel workbook. Open it in a spreadsheet program and save it again "
            "as .xlsx without a password, or as .csv."
        )


def test_a_workbook_that_pretends_to_be_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_LARGEST_BOOK", 3 << 20)
    file = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("xl/sharedStrings.xml", "w") as part:
        for _ in range(4):
            part.write(bytes(1 << 20))
    assert file.stat().st_size < 1 << 20
    with pytest.raises(StudioError, match="too large when it is unpacked"):
        check_file(file)


def test_a_folder_mixes_tables_with_other_files(tmp_path: Path) -> None:
    write(tmp_path, "xlsx", ("问题", "答案"), ("a", "b"))
    write(tmp_path, "csv", ("问", "答"), ("c", "d"))
    assert check_file(tmp_path).records == 2
