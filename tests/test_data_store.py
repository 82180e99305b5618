"""The token store: the same tokens as training always had, policies and limits, and nothing half-built."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glmstudio.data import prepared, survey
from glmstudio.data.protocol.pieces import Piece
from glmstudio.data.protocol.prompt import training_example
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.records import Record, check_file, read_records, record_messages
from glmstudio.data.store import Store, prepare
from glmstudio.errors import StudioError
from glmstudio.files import digest
from glmstudio.paths import DEMO
from tests.bench.data_check import measure, write
from tests.documents import sheet
from tests.vocabulary import GOLDEN, VOCABULARY, needs_vocabulary
from tests.waiting import until

MODEL = DEMO / "model"


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> None:
    """Every test has a cache of its own."""


def pair(question: str, answer: str) -> dict[str, Any]:
    return {"prompt": question, "response": answer}


def test_a_store_keeps_the_notes_and_reads_a_named_sheet(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "a.jsonl", pair("Who?", "I am <NAME>."), pair("Who?", "I am <NAME>."), pair("x", "y<|user|>")
    )
    assert prepare(file, MODEL).notes == check_file(file).notes
    assert prepare(tmp_path, MODEL).notes == check_file(tmp_path).notes
    book = sheet(tmp_path / "a.xlsx", ("prompt", "response"), ("a", "b"))
    named = tmp_path / "a.xlsx#Sheet"
    store = prepare(named, MODEL)
    assert (store.records, store.place(0)) == (1, (str(named), 2))
    assert store.key != prepare(book, MODEL).key


def chat(*said: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"conversations": [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]}


def jsonl(file: Path, *records: Any) -> Path:
    file.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records))
    return file


def same_as_training(store: Store, tokenizer: Tokenizer, messages: list[Any], cuts: tuple[int, ...]) -> None:
    assert len(store) == len(messages) > 0
    for row, each in enumerate(messages):
        example = training_example(tokenizer, each)
        assert store.ids(row).dtype == np.int32
        assert store.learned(row).dtype == np.bool_
        assert store.ids(row).tolist() == example.input_ids
        assert store.labels(row).tolist() == example.labels
        for cut in cuts:
            assert store.ids(row, cut).tolist() == example.cut(cut).input_ids
            assert store.labels(row, cut).tolist() == example.cut(cut).labels


def test_the_sample_has_the_tokens_of_training() -> None:
    sample = DEMO / "sample.jsonl"
    store = prepare(sample, MODEL)
    messages = [record.messages for record in read_records(sample) if isinstance(record, Record)]
    same_as_training(store, Tokenizer(MODEL), messages, (1, 100, 5000))
    assert (store.records, store.problem_count(), store.sha256) == (2000, 0, digest(sample))
    chosen = store.select("stop", 1 << 20)
    assert (chosen.used, chosen.tokens) == (2000, int(store.lengths.sum()))


@needs_vocabulary
def test_the_golden_records_have_the_tokens_of_the_original(tmp_path: Path) -> None:
    cases = json.loads((GOLDEN / "prompts.json").read_text(encoding="utf-8"))["train"]
    store = prepare(jsonl(tmp_path / "golden.jsonl", *(case["item"] for case in cases)), VOCABULARY)
    assert store.problem_count() == 0
    same_as_training(store, Tokenizer(VOCABULARY), [record_messages(c["item"]) for c in cases], (20,))
    for row, case in enumerate(cases):
        assert store.ids(row).tolist() == case["input_ids"]
        assert store.labels(row).tolist() == case["labels"]


def test_toolalpaca_is_read_as_its_original_converter_does() -> None:
    folder = GOLDEN / "toolalpaca"
    store = prepare(folder / "train_data_sample.json", MODEL)
    converted = prepare(folder / "expected_formatted.jsonl", MODEL)
    assert (len(store), store.records, store.problem_count()) == (3, 5, 2)
    assert np.array_equal(store.table.ids, converted.table.ids)
    assert np.array_equal(store.table.learned, converted.table.learned)


def test_policies_count_what_they_do(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "bad.jsonl",
        pair("a", "b"),
        chat("a", "b", "c"),  # mended, it is the first one
        pair("a", "b"),
        "{",
        pair("1 + 1", 2),  # type: ignore[arg-type]
        pair("x", ""),
    )
    store = prepare(file, MODEL)
    assert [(problem.line, problem.fix) for problem in store.problems()] == [
        (2, "end"), (3, "duplicate"), (4, None), (5, "text"), (6, None),
    ]  # fmt: skip
    assert (len(store), store.records, store.problem_count()) == (4, 6, 5)
    with pytest.raises(
        StudioError, match=r"5 records of .*bad\.jsonl cannot be used; the first is on line 2: .*drop.*fix"
    ):
        store.select("stop", 1000)
    dropped = store.select("drop", 1000)
    assert (dropped.used, dropped.dropped, dropped.mended, dropped.duplicates) == (1, 5, 0, 1)
    fixed = store.select("fix", 1000)
    assert (fixed.used, fixed.dropped, fixed.mended, fixed.duplicates) == (2, 4, 1, 2)
    assert [store.place(row)[1] for row in fixed.rows] == [1, 5]
    tokenizer = Tokenizer(MODEL)
    assert "2" in tokenizer.decode(store.ids(int(fixed.rows[1])).tolist())
    assert fixed.tokens == sum(len(store.ids(int(row))) for row in fixed.rows)
    assert fixed.learned == sum(int(store.learned(int(row)).sum()) for row in fixed.rows)
    with pytest.raises(StudioError, match="not a way to treat bad records"):
        store.select("ask", 1000)
    assert check_file(file).records == 1


def test_a_limit_is_told_cut_or_mended(tmp_path: Path) -> None:
    long = chat("one", "two", "three", "four " * 50, "five", "six")
    file = jsonl(tmp_path / "long.jsonl", long, pair("a", "b"), pair("q " * 100, "r"), pair("q", "r " * 100))
    store = prepare(file, MODEL)
    tokenizer = Tokenizer(MODEL)
    first = training_example(tokenizer, record_messages(chat("one", "two", "three"))).input_ids
    whole = first.index(tokenizer.special["<|user|>"], 3) + 1  # up to the sign that ends the first answer
    limit = whole + 10
    assert [(each.line, each.reason.key, each.fix) for each in store.problems(limit)] == [
        (1, "data.answer_cut", "fit"), (3, "data.answer_lost", None), (4, "data.answer_cut", None),
    ]  # fmt: skip
    assert store.problem_count(limit) == 3
    assert store.problem_count() == 0
    with pytest.raises(StudioError, match="3 records"):
        store.select("stop", limit)
    dropped = store.select("drop", limit)
    assert (dropped.rows.tolist(), dropped.lost, dropped.dropped, dropped.cut) == ([1], 3, 3, 0)
    fixed = store.select("fix", limit)
    assert fixed.rows.tolist() == [0, 1]
    assert fixed.ends.tolist() == [whole, int(store.lengths[1])]
    assert (fixed.cut, fixed.lost, fixed.mended) == (1, 2, 0)
    assert store.ids(0, whole).tolist()[-1] == tokenizer.special["<|user|>"]
    assert store.learned(0, whole).tolist()[-1]
    assert fixed.learned == int(store.learned(0, whole).sum() + store.learned(1).sum())
    plain = store.select("stop", limit, plain_cut=True)
    assert plain.rows.tolist() == [0, 1, 3]
    assert (plain.ends.tolist(), plain.cut, plain.lost) == ([limit, int(store.lengths[1]), limit], 2, 1)
    for ask in (lambda: store.select("fix", 2), lambda: store.problems(0), lambda: store.problem_count(-5)):
        with pytest.raises(StudioError, match="too small"):
            ask()
    assert store.select("stop", 10**15).used == 4
    with pytest.raises(StudioError, match="contains no conversation"):
        prepare(jsonl(tmp_path / "one.jsonl", pair("q " * 100, "r")), MODEL).select("fix", 20)


def test_an_unlearned_rest_beyond_the_limit_is_no_problem(tmp_path: Path) -> None:
    call = {"role": "tool", "name": "f", "parameters": {}, "observation": "x " * 100}
    store = prepare(jsonl(tmp_path / "a.jsonl", {"conversations": [{"role": "user", "content": "a"}, call]}), MODEL)
    limit = int(store.lengths[0]) - 50
    assert store.problem_count(limit) == 0
    chosen = store.select("stop", limit)
    assert (chosen.ends.tolist(), chosen.cut) == ([limit], 1)


def test_one_record_is_shown_as_the_model_sees_it(tmp_path: Path) -> None:
    store = prepare(jsonl(tmp_path / "a.jsonl", chat("Hi", "Yes 你好 <|user|>")), MODEL)
    shown = store.record_pieces(0, 1000)
    assert [(piece.text, piece.kind) for piece in shown if piece.special] == [
        ("[gMASK]", "plain"), ("sop", "plain"), ("<|user|>", "plain"), ("<|assistant|>", "plain"), ("</s>", "trained"),
    ]  # fmt: skip
    assert sum(piece.tokens for piece in shown) == store.lengths[0]
    text = next(piece for piece in shown if piece.kind == "trained")
    assert isinstance(text, Piece)
    assert text.text.split() == ["Yes", "你好", "<|user|>"]  # typed by somebody, so letters and not the sign
    cut = store.record_pieces(0, int(store.lengths[0]) - 2)
    assert [piece.kind for piece in cut[-2:]] == ["cut", "cut"]
    assert cut[-1].text == "</s>"


def test_the_histogram_counts_everything_once(tmp_path: Path) -> None:
    store = prepare(jsonl(tmp_path / "a.jsonl", *(pair("a", "b " * count) for count in range(1, 90))), MODEL)
    for limit in (None, 16, 50, 10_000):
        bars = store.histogram(limit, 10)
        assert sum(count for _, _, count in bars) == 89
        assert bars[0][0] == 0
        assert all(low < high for low, high, _ in bars)
        assert [high for _, high, _ in bars[:-1]] == [low for low, _, _ in bars[1:]]
        for low, high, count in bars:
            assert count == int(((store.lengths > low) & (store.lengths <= high)).sum())
    assert any(high == 50 for _, high, _ in store.histogram(50, 10))


def test_the_split_is_by_what_a_record_says(tmp_path: Path) -> None:
    records = [pair(f"question {number}", "x") for number in range(1000)]
    store = prepare(jsonl(tmp_path / "a.jsonl", *records), MODEL)
    held = store.table.split(0.1, seed=3)
    assert 70 < held.sum() < 130
    assert np.array_equal(held, store.table.split(0.1, seed=3))
    assert not np.array_equal(held, store.table.split(0.1, seed=4))
    again = prepare(jsonl(tmp_path / "b.jsonl", *records[:500], *records[:500], pair("new", "y")), MODEL)
    other = again.table.split(0.1, seed=3)
    assert np.array_equal(other[:500], held[:500])
    assert np.array_equal(other[500:1000], held[:500])
    few = prepare(jsonl(tmp_path / "c.jsonl", *records[:2]), MODEL)
    assert few.table.split(0.01).sum() == few.table.split(0.99).sum() == 1
    assert prepare(jsonl(tmp_path / "d.jsonl", records[0]), MODEL).table.split(0.5).sum() == 0


def test_a_store_is_made_once_for_each_state_of_source_and_tokenizer(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", pair("a", "b"))
    first = prepare(file, MODEL)
    heard: list[float] = []
    assert prepare(file, MODEL, tell=lambda share, _: heard.append(share)).key == first.key
    assert heard == []
    jsonl(file, pair("a", "b"), pair("c", "d"))
    second = prepare(file, MODEL, tell=lambda share, _: heard.append(share))
    assert (len(second), heard[-1]) == (2, 1.0)
    assert second.key != first.key
    other = tmp_path / "model"
    other.mkdir()
    (other / "tokenizer.model").write_bytes((MODEL / "tokenizer.model").read_bytes())
    assert prepare(file, other).key == second.key  # the same bytes elsewhere
    assert len(list(prepared.place().iterdir())) == 2
    copy = pickle.loads(pickle.dumps(second))  # noqa: S301  made here
    assert len(pickle.dumps(second)) < 2000
    assert copy.ids(1).tolist() == second.ids(1).tolist()


def test_a_stopped_or_changing_source_leaves_nothing(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", *(pair(str(number), "b") for number in range(2000)))
    with pytest.raises(StudioError, match="was stopped"):
        prepare(file, MODEL, cancelled=lambda: True)

    def change(share: float, _: int) -> None:
        with file.open("a") as more:
            more.write(json.dumps(pair("more", "b")) + "\n")

    with pytest.raises(StudioError, match="changed while"):
        prepare(file, MODEL, tell=change)
    assert list(prepared.place().iterdir()) == []


_BUILD = """
import sys
from pathlib import Path
from glmstudio.data.store import prepare
print("up", flush=True)
store = prepare(Path(sys.argv[1]), Path(sys.argv[2]))
print(len(store), store.table.ids.sum(), flush=True)
"""


def test_a_killed_builder_leaves_nothing_that_is_used(tmp_path: Path, spawn: Callable[..., Any]) -> None:
    file = tmp_path / "big.jsonl"
    write(file, 4000)
    child = spawn("-c", _BUILD, str(file), str(MODEL))
    assert child.stdout.readline() == "up\n"
    until(lambda: any((place / "ids").exists() for place in prepared.place().glob(".building-*")))
    time.sleep(0.1)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    (left,) = prepared.place().glob(".building-*")
    assert not (left / "about.json").exists()
    assert len(prepare(file, MODEL)) == 4000
    assert [place.name.startswith(".") for place in prepared.place().iterdir()] == [False]


def test_two_builders_at_once_make_one_store(tmp_path: Path, spawn: Callable[..., Any]) -> None:
    file = tmp_path / "big.jsonl"
    write(file, 1500)
    children = [spawn("-c", _BUILD, str(file), str(MODEL)) for _ in range(2)]
    said = [child.communicate(timeout=60)[0].split("\n")[1] for child in children]
    assert said[0] == said[1] != ""
    assert said[0].split()[0] == "1500"
    assert len(list(prepared.place().iterdir())) == 1


def test_old_stores_go_and_nothing_else(tmp_path: Path, home: Path) -> None:
    def used(folder: Path, days: float) -> None:
        then = time.time() - days * 24 * 3600
        os.utime(folder / "about.json", (then, then))

    stores = [prepare(jsonl(tmp_path / f"{n}.jsonl", pair(str(n), "b")), MODEL) for n in range(8)]
    folders = [prepared.place() / store.key for store in stores]
    for folder, days in zip(folders, (30, 20, 10, 9, 8, 3, 2, 1), strict=True):
        used(folder, days)
    keep = [prepared.place() / "notes", home / "cache" / "other", prepared.place() / ("f" * 63)]
    for folder in keep:
        folder.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (prepared.place() / ("a" * 64)).symlink_to(outside)
    prepared.prune()
    assert [folder.exists() for folder in folders] == [False] * 3 + [True] * 5
    assert all(folder.is_dir() for folder in [*keep, outside])
    used(folders[3], 40)
    assert len(prepare(tmp_path / "3.jsonl", MODEL)) == 1  # using it makes it new
    prepare(jsonl(tmp_path / "9.jsonl", pair("9", "b")), MODEL)
    assert folders[3].exists()
    assert not folders[4].exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_a_large_file_is_never_in_memory(tmp_path: Path, kind: str) -> None:
    small, large = tmp_path / f"small.{kind}", tmp_path / f"large.{kind}"
    write(small, 100)
    write(large, 6000)
    peaks = [measure(file, MODEL, tmp_path / "home") for file in (small, large)]
    assert peaks[1]["records"] == 6000
    assert peaks[1]["rising"]
    assert large.stat().st_size > 8e6
    assert peaks[1]["peak"] - peaks[0]["peak"] < 0.9 * large.stat().st_size  # as one text and objects: many times that
    assert peaks[1]["later"] - peaks[0]["later"] < 1.5 * peaks[1]["tokens"] + 12e6


def test_an_empty_store_is_no_accident(tmp_path: Path) -> None:
    store = prepare(jsonl(tmp_path / "a.jsonl", "{"), MODEL)
    assert (len(store), store.records, store.problem_count(50)) == (0, 1, 1)
    assert sum(count for _, _, count in store.histogram(50)) == 0
    assert store.table.split(0.5).tolist() == []
    with pytest.raises(StudioError, match="contains no conversation"):
        store.select("drop", 100)


def test_a_survey_prepares_in_a_child_and_is_joined(tmp_path: Path) -> None:
    file = tmp_path / "big.jsonl"
    write(file, 3000)
    assert survey.look(file, MODEL) == survey.SurveyProgress()
    starts = [threading.Thread(target=survey.start, args=(file, MODEL)) for _ in range(3)]
    for each in starts:
        each.start()
    for each in starts:
        each.join()
    until(lambda: survey.look(file, MODEL).records > 0)
    until(lambda: survey.look(file, MODEL).store)
    seen = survey.look(file, MODEL)
    assert seen.store is not None
    assert (len(seen.store), seen.share, seen.records, seen.problem, seen.running) == (3000, 1.0, 3000, None, False)
    assert survey.look(file, MODEL).store is seen.store  # opened once
    assert len(list(prepared.place().iterdir())) == 1
    survey.start(file, MODEL)
    assert len(list((prepared.place().parents[1] / "state/surveys").iterdir())) == 1


@pytest.mark.slow
def test_a_killed_survey_says_so_and_begins_again(tmp_path: Path) -> None:
    file = tmp_path / "big.jsonl"
    write(file, 8000)
    survey.start(file, MODEL)
    until(lambda: survey.look(file, MODEL).records > 0)
    (job,) = (prepared.place().parents[1] / "state/surveys").glob("*/job.json")
    os.kill(json.loads(job.read_text())["identity"]["pid"], signal.SIGKILL)
    until(lambda: not survey.look(file, MODEL).running)
    seen = survey.look(file, MODEL)
    assert seen.store is None
    assert seen.problem is not None
    assert seen.problem.key == "data.survey_died"
    survey.start(file, MODEL)
    assert survey.look(file, MODEL).problem is None
    until(lambda: survey.look(file, MODEL).store, 60)


def test_a_survey_brings_the_problem_of_its_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "model"
    broken.mkdir()
    (broken / "tokenizer.model").write_bytes(b"nonsense")
    file = jsonl(tmp_path / "a.jsonl", pair("a", "b"))
    survey.start(file, broken)
    until(lambda: survey.look(file, broken).problem)
    problem = survey.look(file, broken).problem
    assert problem is not None
    assert problem.key == "models.vocabulary_broken"
    with pytest.raises(StudioError, match="There is no file"):
        survey.look(tmp_path / "none.jsonl", MODEL)


def test_check_with_a_model_prints_lengths(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", pair("a", "b"), pair("q", "r " * 100), "{")
    command = [sys.executable, "-m", "glmstudio", "data", "check", str(file), "--model", "demo", "--max-length", "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C.UTF-8"})
    assert done.returncode == 1
    assert "1 records can be trained on, 2 cannot." in done.stdout
    assert "---- limit: 60 tokens ----" in done.stdout
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert list(found) == ["format", "records", "problems"]
    assert found["records"] == 1
    assert [list(each) for each in found["problems"]] == [["file", "line", "reason"]] * 2


def test_a_terminal_sees_a_bar_after_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from glmstudio.cli import progress_bar

    def said(terminal: bool, patience: float) -> str:
        monkeypatch.setattr(progress_bar, "_PATIENCE_S", patience)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
        with progress_bar.progress() as tell:
            tell(0.5, 1234)
        return capsys.readouterr().err

    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert said(True, 0.0) == "\r" + "█" * 15 + "░" * 15 + " 50 %, 1,234 records\x1b[K" + "\r\x1b[K"
    assert said(True, 1.0) == said(False, 0.0) == ""
