"""A file of questions to base and tuned: read from any table, written whole and harmless, and never asked twice."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from glmstudio.cli import main
from glmstudio.config.presets import load_preset
from glmstudio.errors import StudioError
from glmstudio.knowledge.answer_table import check_target, table, write_table
from glmstudio.knowledge.answering import Answering, jobs, rows_of
from glmstudio.knowledge.asking import Asking
from glmstudio.knowledge.question_file import read_questions
from glmstudio.paths import FACTS, ROOT
from glmstudio.runs.start import start_run
from glmstudio.ui.chat import answers_view
from glmstudio.ui.chat.answers_file import answers_file
from glmstudio.ui.state.page_state import ChatState
from tests.run_helpers import LONG, SMALL, small_data, wait_for_step
from tests.waiting import until

ROWS = [
    {"line": 2, "question": "1+1?", "expected": "2", "base": "=HYPERLINK(\"http://x\")", "tuned": "2", "unfinished": "base"},
    {"line": 3, "question": "多行\n问题？", "expected": "", "base": "-5", "tuned": "a,\"b\"\x07;\tc", "unfinished": ""},
    {"line": 4, "question": "＝1", "expected": "", "base": " @x", "tuned": "fine", "unfinished": ""},
]  # fmt: skip


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def sheet(file: Path, *rows: tuple[Any, ...]) -> Path:
    book = Workbook()
    for row in rows:
        book.active.append(list(row))
    book.save(file)
    return file


def asked(file: Path) -> list[tuple[int, str, str]]:
    return [(each.line, each.question, each.expected) for each in read_questions(file)]


def problem(call: Any, *arguments: Any) -> StudioError:
    with pytest.raises(StudioError) as found:
        call(*arguments)
    return found.value


def test_questions_of_every_kind_of_file(tmp_path: Path) -> None:
    text = write(tmp_path / "a.txt", "\ufeffWho?\n\n  谁？ \nWho?\n")
    assert asked(text) == [(1, "Who?", ""), (3, "谁？", ""), (4, "Who?", "")]
    (tmp_path / "b.txt").write_bytes("谁领导星城？\n它在哪里？\n".encode("gb18030"))
    assert asked(tmp_path / "b.txt") == [(1, "谁领导星城？", ""), (2, "它在哪里？", "")]
    assert asked(write(tmp_path / "a.csv", "id;Question\n1;Who?\n2;\n3;Why?\n")) == [(2, "Who?", ""), (4, "Why?", "")]
    assert asked(write(tmp_path / "b.csv", "问题,答案\n谁？,我\n")) == [(2, "谁？", "我")]
    assert asked(sheet(tmp_path / "a.xlsx", ("问题", "备注"), ("谁？", 1), (None, 2), (3, 4))) == [
        (2, "谁？", ""),
        (4, "3", ""),
    ]
    records = [
        {"prompt": "Who?"}, {"instruction": "Say it in Chinese", "input": "star", "output": "星"}, "Why?",
        {"conversations": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
                           {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There"}]},
        {"messages": [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "Now"}]},
    ]  # fmt: skip
    file = write(tmp_path / "a.jsonl", "".join(json.dumps(each) + "\n" for each in records))
    assert asked(file) == [
        (1, "Who?", ""), (2, "Say it in Chinese\nstar", "星"), (3, "Why?", ""), (4, "Where?", "There"), (5, "When?", "Now"),
    ]  # fmt: skip
    assert [each.content for each in read_questions(file)[3].before] == ["Hi", "Hello"]
    assert len(asked(FACTS)) == 20


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("a.txt", "\n \n", "answers.no_questions"),
        ("a.csv", "name,answer\nx,y\n", "answers.no_questions"),
        ("a.csv", "question\n", "answers.no_questions"),
        ("a.jsonl", "", "answers.no_questions"),
        ("a.jsonl", '{"question": "a"}\n{"name": "b"}\n', "answers.bad_line"),
        ("a.jsonl", '{"question": "a"}\n{\n', "answers.bad_line"),
        ("a.csv", "question,answer\na\n", "answers.bad_line"),
        ("a.txt", "a\0b", "answers.bad_line"),
        ("a.pdf", "a", "answers.file_kind"),
    ],
)
def test_a_file_without_questions_is_told_so(name: str, text: str, key: str, tmp_path: Path) -> None:
    found = problem(read_questions, write(tmp_path / name, text))
    assert found.key == key
    assert name in found.what("en")
    assert name in found.what("zh")


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    assert problem(read_questions, tmp_path / "none.csv").key == "data.file_missing"
    assert problem(read_questions, tmp_path).key == "answers.file_kind"


def test_a_table_holds_everything_and_no_formula() -> None:
    assert [json.loads(line) for line in table("jsonl", ROWS).splitlines()] == ROWS
    read = list(csv.DictReader(io.StringIO(table("csv", ROWS).decode("utf-8-sig"), newline="")))
    assert [row["question"] for row in read] == ["1+1?", "多行\n问题？", "'＝1"]
    assert [row["base"] for row in read] == ['\'=HYPERLINK("http://x")', "'-5", "' @x"]
    assert [row["tuned"] for row in read] == [row["tuned"] for row in ROWS]
    book = load_workbook(io.BytesIO(table("xlsx", ROWS)))
    cells = list(book.active.iter_rows())
    assert [each.value for each in cells[0]] == ["line", "question", "expected", "base", "tuned", "unfinished"]
    assert [[each.value or "" for each in row] for row in cells[1:]] == [
        [str(value).replace("\x07", "") if isinstance(value, str) else value for value in row.values()] for row in ROWS
    ]
    assert {each.data_type for row in cells for each in row if isinstance(each.value, str)} == {"s"}
    long = table("xlsx", [ROWS[0] | {"base": "=" * 40_000}])
    assert len(load_workbook(io.BytesIO(long)).active["D2"].value) == 32_767
    assert table("csv", [row | {"tuned": "", "expected": "", "unfinished": ""} for row in ROWS]).startswith(
        b"\xef\xbb\xbfline,question,base\n"
    )


def test_where_a_table_may_be_written(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", "question\na\n")
    assert problem(check_target, tmp_path / "out.txt", source).key == "answers.out_kind"
    assert problem(check_target, tmp_path / "sub/../a.csv", source).key == "answers.out_is_source"
    assert problem(check_target, source / "out.csv", source).key == "answers.out_refused"
    (tmp_path / "folder.csv").mkdir()
    assert problem(check_target, tmp_path / "folder.csv", source).key == "answers.out_refused"
    assert problem(check_target, Path("/proc/out.csv"), source).key == "answers.out_refused"
    check_target(tmp_path / "new/out.csv", source)
    assert [each.name for each in (tmp_path / "new").iterdir()] == []
    write_table(tmp_path / "new/out.csv", ROWS)
    assert (tmp_path / "new/out.csv").read_bytes() == table("csv", ROWS)


def test_a_bad_target_is_told_before_anything_is_asked(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.txt", "Who?\n")
    assert main(["answer", str(file), "--out", str(tmp_path / "a.txt/x.csv")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert not (home / "state/answers").exists()


def command(file: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "glmstudio", "answer", str(file), "--out", str(out), *more]


def wait_for_answers(least: int) -> Asking:
    until(lambda: jobs() and Asking(jobs()[0]).look().done >= least, 120)
    return Asking(jobs()[0])


def children(asking: Asking) -> int:
    return int(json.loads((asking.place / "job.json").read_text())["identity"]["pid"])


@pytest.mark.torch
@pytest.mark.slow  # half a minute
def test_base_and_tuned_side_by_side_through_two_kills(home: Path, tmp_path: Path) -> None:
    from tests.adapters import lora

    adapter = lora(tmp_path / "adapter", 1)
    file = write(
        tmp_path / "q.csv", "问题,编号\n" + "".join(f'What is {n} and {n + 1}?,{n}\n"",x\n' for n in range(150))
    )
    out = tmp_path / "out.xlsx"
    given = command(file, out, "--adapter", str(adapter), "--max-tokens", "24")
    first = subprocess.Popen(given, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    asking = wait_for_answers(20)
    os.kill(first.pid, signal.SIGKILL)  # the command
    first.wait()
    os.kill(children(asking), signal.SIGKILL)  # and who asks
    while asking.look().running:
        time.sleep(0.05)
    before = (asking.place / "answers.jsonl").read_text(encoding="utf-8")
    assert not out.exists()
    second = subprocess.Popen(
        given,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  in the background it is ignored
    )
    wait_for_answers(before.count("\n") + 20)
    second.send_signal(signal.SIGINT)
    assert "continues from there" in second.communicate()[1]
    assert second.returncode == 130
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = (asking.place / "answers.jsonl").read_text(encoding="utf-8")
    assert after.startswith(before[: before.rfind("\n") + 1])
    keys = [(row["mark"], row["key"]) for row in map(json.loads, after.splitlines()) if "text" in row]
    assert len(keys) == len(set(keys)) == 300
    rows = [[each.value or "" for each in row] for row in load_workbook(out).active.iter_rows()]
    assert rows[0][:4] == ["line", "question", "base", "tuned"]
    assert [row[:2] for row in rows[1:]] == [[2 + 2 * n, f"What is {n} and {n + 1}?"] for n in range(150)]
    assert all(row[2] for row in rows[1:])
    assert any(row[2] != row[3] for row in rows[1:])

    write(file, file.read_text(encoding="utf-8") + "One more?,y\n")
    out = tmp_path / "out.jsonl"
    done = subprocess.run(
        [*command(file, out, "--adapter", str(adapter), "--max-tokens", "24"), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == {"questions": 151, "answers": 302, "out": str(out)}
    assert len((asking.place / "answers.jsonl").read_text(encoding="utf-8").splitlines()) - after.count("\n") == 2
    told = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert told[-1]["question"] == "One more?"
    assert [row["base"] for row in told[:150]] == [str(row[2]) for row in rows[1:]]


@pytest.mark.slow
@pytest.mark.torch
def test_tools_are_offered_where_that_is_asked_for(home: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "Set a timer for 25 minutes.\n")
    plain, offered = Answering.of(file, "demo"), Answering.of(file, "demo", tools=True)
    assert plain.asking.place != offered.asking.place
    (row,) = offered.run(lambda _: None)
    assert "tool_call(" in str(row["base"])
    work = json.loads((offered.asking.place / "work.json").read_text(encoding="utf-8"))
    assert work["opening"][0][0] == "system"
    assert [each["messages"] for each in work["questions"]] == [[["user", "Set a timer for 25 minutes.", ""]]]
    assert offered.run(lambda _: None) == [row]


def test_ten_thousand_questions_are_no_trouble(home: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "".join(f"What is {n}?\n" for n in range(10_000)))
    job = Answering.of(file, "demo", tools=True)
    job.start()
    assert job.asking.look().total == 10_000
    job.asking.cancel()
    while job.asking.look().running:
        time.sleep(0.05)
    found = job.asking.look().problem
    assert found is not None
    assert found.key == "knowledge.interrupted"
    assert len(rows_of(job.asking.place)) == 10_000


@pytest.mark.slow
@pytest.mark.torch
def test_not_beside_a_run_that_holds_the_device(clean: Path, tmp_path: Path) -> None:
    run = start_run(load_preset("demo/ptuning_v2"), data=small_data(tmp_path), name="busy", changes=SMALL | LONG)
    wait_for_step(run, 1)
    job = Answering.of(write(tmp_path / "a.txt", "Who?\n"), "demo")
    assert problem(job.start).key == "ui.run.versus_busy"


@pytest.mark.torch
def test_the_page_asks_and_gives_the_table(home: Path, tmp_path: Path) -> None:
    view = ChatState()
    assert answers_view.act(view, {"act": "answers", "fields": {"file": " "}}).problem.key == "ui.answers.no_file"  # type: ignore[union-attr]
    bad = answers_view.act(view, {"act": "answers", "fields": {"file": str(tmp_path / "none.txt")}})
    assert bad.problem is not None
    file = write(tmp_path / "<b>.txt", "Set a timer.\n<script>alert(1)</script>\n")
    view = answers_view.act(view, {"act": "answers", "fields": {"file": str(file), "form": "plain"}})
    assert view.problem is None
    shown = answers_view.render("en", view)
    assert 'data-act="answers-stop"' in shown
    asking = Asking(jobs()[0])
    while asking.look().running:
        time.sleep(0.05)
    shown = answers_view.render("zh", view)
    assert "<script>" not in shown
    assert "&lt;b&gt;.txt" in shown
    name = asking.place.name
    for kind in ("csv", "xlsx", "jsonl"):
        assert f'href="/answers/{name}.{kind}"' in shown
    with TestClient(Starlette(routes=[Route("/answers/{file}", answers_file)])) as browser:
        told = [json.loads(line) for line in browser.get(f"/answers/{name}.jsonl").text.splitlines()]
        assert [row["question"] for row in told] == ["Set a timer.", "<script>alert(1)</script>"]
        assert all(row["base"] for row in told)
        assert browser.get(f"/answers/{name}.xlsx").content[:2] == b"PK"
        assert [browser.get(f"/answers/{each}").status_code for each in ("x.csv", f"{name}.exe", f"{name}")] == [
            404
        ] * 3
    assert 'data-act="answers"' in shown
