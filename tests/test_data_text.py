"""Running text as training data: cut where a reader would, learned whole, in every encoding, and trained on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from glmstudio.cli import main
from glmstudio.config.devices import choose
from glmstudio.config.presets import load_preset
from glmstudio.data.formats.text import Document
from glmstudio.data.protocol.prompt import training_example
from glmstudio.data.protocol.tokenizer import EOS, Tokenizer
from glmstudio.data.readers.cutting import Cutter
from glmstudio.data.readers.sources import KINDS, source_files
from glmstudio.data.records import Problem, check_file, form_of, read_records
from glmstudio.data.store import Store, prepare
from glmstudio.errors import StudioError
from glmstudio.paths import DEMO
from glmstudio.planning.memory_fit import device_memory_of
from glmstudio.planning.plan import make_plan
from tests.vocabulary import VOCABULARY, needs_vocabulary

MODEL = DEMO / "model"
ENGLISH = [
    "The old library of the town was built in 1912. It holds forty thousand books!",
    "Its roof was mended twice; the second time, nobody paid.\nSo the town gave a feast.",
    "Whoever reads there is quiet. Whoever is not quiet reads at home.",
]
CHINESE = ["小镇的老图书馆建于一九一二年。馆里有四万册书！", "屋顶修过两次；第二次没有人付钱。", "读书的人都很安静。"]


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> None:
    """Every test has a cache of its own."""


def write(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.write_bytes(text.encode(encoding))
    return file


def cut(text: str, limit: int, folder: Path = MODEL) -> list[tuple[int, str, bool]]:
    pieces = list(Cutter(Tokenizer(folder), limit)([(1, Document(text))]))
    return [(line, each.text, each.goes_on) for line, each in pieces]


def spelled(store: Store) -> list[str]:
    tokenizer = Tokenizer(MODEL)
    return [tokenizer.decode(store.ids(row).tolist()).strip() for row in range(len(store))]


def test_everything_is_learned_but_the_start(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\n\n".join(ENGLISH))
    store = prepare(file, MODEL)
    tokenizer = Tokenizer(MODEL)
    start = [tokenizer.special["[gMASK]"], tokenizer.special["sop"]]
    assert store.ids(0).tolist() == [*start, *tokenizer.encode("\n\n".join(ENGLISH)), EOS]
    assert store.learned(0).tolist() == [False, False] + [True] * (len(store.ids(0)) - 2)
    assert (len(store), store.records, store.form, store.problem_count(4096)) == (1, 1, "text", 0)
    (record,) = read_records(file)
    assert not isinstance(record, Problem)
    assert training_example(tokenizer, record.messages).input_ids == store.ids(0).tolist()
    assert {piece.kind for piece in store.record_pieces(0, 4096)} == {"plain", "trained"}


@pytest.mark.parametrize("paragraphs", [ENGLISH, CHINESE])
def test_pieces_end_with_paragraphs_then_with_sentences_then_anywhere(paragraphs: list[str]) -> None:
    tokenizer, text = Tokenizer(MODEL), "\n\n".join(paragraphs)
    sizes = [len(tokenizer.encode(f"\n{each}")) for each in paragraphs]
    found = cut(text, max(sizes) + 2)  # three more are needed than the text's own; the sign in front is not counted
    assert [each for _, each, _ in found] == paragraphs
    assert [goes_on for _, _, goes_on in found] == [True, True, False]
    sentences = [each for _, each, _ in cut(text, max(sizes) - 2)]
    assert all(each[-1] in ".!。！;；" for each in sentences)
    assert len(sentences) > len(paragraphs)
    for limit in (4, 5, 9, 16):
        pieces = [each for _, each, _ in cut("".join(paragraphs[0].split()), limit)]
        assert "".join(pieces) == "".join(paragraphs[0].split())


def test_every_piece_is_within_the_limit_and_nothing_is_lost(tmp_path: Path) -> None:
    text = (
        "\n\n".join(f"Part {number}.\n" + "\n".join(ENGLISH + CHINESE) for number in range(60))
        + "x" * 5000
        + "🙂" * 300
    )
    file = write(tmp_path / "a.md", text)
    for limit in (16, 61, 256, 4096):
        store = prepare(file, MODEL, piece=limit)
        chosen = store.select("stop", limit)
        assert store.lengths.max() <= limit
        assert (chosen.used, chosen.cut, chosen.dropped) == (store.records, 0, 0)
        assert chosen.learned == chosen.tokens - 2 * chosen.used
        assert "".join("".join(spelled(store)).split()) == "".join(text.split())
    assert prepare(file, MODEL, piece=61).key != prepare(file, MODEL, piece=256).key
    store = prepare(file, MODEL, piece=256)
    assert [int(store.ids(row)[-1]) == EOS for row in range(len(store))] == [False] * (len(store) - 1) + [True]
    for row, said in enumerate(spelled(store)):
        rest = "".join(text.split("\n")[store.place(row)[1] - 1 :])
        assert "".join(said.split())[:6] in "".join(rest.split())[:5200]


@needs_vocabulary
def test_pieces_in_the_real_vocabulary(tmp_path: Path) -> None:
    text = "\n\n".join((ENGLISH + CHINESE) * 40)
    store = prepare(write(tmp_path / "a.txt", text), VOCABULARY, piece=128)
    tokenizer = Tokenizer(VOCABULARY)
    said = "".join(tokenizer.decode(store.ids(row).tolist()) for row in range(len(store)))
    assert store.lengths.max() <= 128
    assert store.lengths.mean() > 96
    assert "".join(said.split()) == "".join(text.split())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_a_text_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    store = prepare(write(tmp_path / "a.txt", "\r\n\r\n".join(CHINESE), encoding), MODEL)
    assert spelled(store) == ["\n\n".join(CHINESE)]


def test_what_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_bytes("\n\n".join(CHINESE).encode() + b"\n\nbad \xff\xfe here\n\n" + ENGLISH[0].encode())
    found = check_file(broken)
    assert [(each.line, each.text()) for each in found.problems] == [
        (7, "Some bytes here are not valid in the encoding of the file; save it as UTF-8.")
    ]
    assert found.records == 2
    for name, content in {"zeros": b"PK\x03\x04\0\0\0" * 100, "utf16": ENGLISH[0].encode("utf-16-le")}.items():
        file = tmp_path / f"{name}.txt"
        file.write_bytes(content)
        check = check_file(file)
        assert (check.records, [each.reason.key for each in check.problems]) == (0, ["data.not_text"])
    with pytest.raises(StudioError, match="not text in its encoding"):
        check_file(_bytes(tmp_path / "half.txt", "ab".encode("utf-16") + b"\0"))


def _bytes(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def test_an_empty_text_is_no_record(tmp_path: Path) -> None:
    for content in ("", "\n \n\t\n", "\ufeff"):
        check = check_file(write(tmp_path / "a.txt", content))
        assert (check.records, check.problems) == (0, ())


def test_a_piece_may_come_again(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", ENGLISH[0])
    write(tmp_path / "b.txt", f"\n\n{ENGLISH[0]}\n")
    assert check_file(tmp_path).problems == ()
    store = prepare(tmp_path, MODEL)
    assert store.select("stop", 512).used == 2
    assert [store.place(row) for row in range(2)] == [(str(tmp_path / "a.txt"), 1), (str(tmp_path / "b.txt"), 3)]


def test_a_folder_of_texts_and_a_readme_beside_records(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "more/c.TXT"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, f"{name}: {ENGLISH[0]}")
    assert [each.relative_to(tmp_path).as_posix() for each in source_files(tmp_path)] == ["a.md", "b.txt", "more/c.TXT"]
    assert (check_file(tmp_path).records, form_of(tmp_path)) == (3, "text")
    write(tmp_path / "facts.jsonl", json.dumps({"prompt": "Who?", "response": "You."}))
    assert source_files(tmp_path) == [tmp_path / "facts.jsonl"]
    assert {".txt", ".md"} <= set(KINDS)


def test_a_text_of_several_stretches_is_one_document(tmp_path: Path) -> None:
    paragraph = " ".join(ENGLISH)
    text = "\n\n".join(f"{number} {paragraph}" for number in range(12_000))
    assert len(text) > 2 << 20
    found = list(read_records(write(tmp_path / "a.txt", text)))
    assert [each.messages[0].metadata for each in found if not isinstance(each, Problem)] == ["goes on", "goes on", ""]
    said = "\n\n".join(each.messages[0].content.strip() for each in found if not isinstance(each, Problem))
    assert said == text
    lines = [each.line for each in found]
    assert [text.split("\n")[line - 1] for line in lines] == [
        each.messages[0].content.split("\n")[0] for each in found if not isinstance(each, Problem)
    ]


def test_the_command_names_the_format_and_shows_what_is_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(write(tmp_path / "a.txt", ENGLISH[0]))
    assert main(["data", "check", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"format": "text", "records": 1, "problems": []}
    assert main(["data", "check", file, "--model", "demo", "--max-length", "16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] > 1
    assert main(["data", "tokens", file, "--model", str(MODEL), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["labels"] == [-100, -100, *row["input_ids"][2:]]


def test_a_plan_and_a_validation_split(tmp_path: Path) -> None:
    text = "\n\n".join(f"{number}. {each}" for number in range(60) for each in ENGLISH)
    file = write(tmp_path / "a.txt", text)
    settings = replace(load_preset("demo/lora").settings, max_length=128, validation_share=0.1)
    store = prepare(file, MODEL, piece=settings.max_length)
    chosen = store.select("stop", settings.max_length)
    plan = make_plan(settings, device_memory_of(choose("cpu")), store, chosen)
    assert plan.longest <= 128
    assert 0 < plan.held_back < chosen.used
    assert plan.learned_from == chosen.used - plan.held_back


@pytest.mark.slow
@pytest.mark.torch
def test_a_run_learns_from_a_text(tmp_path: Path) -> None:
    from glmstudio.config.settings import Settings, change
    from glmstudio.files import read_json, write_json
    from glmstudio.train.worker import train

    file = write(tmp_path / "a.txt", "\n\n".join(ENGLISH * 30))
    small = {"steps": 8, "batch_size": 2, "max_length": 128, "save_every": 4, "validation_share": 0.2, "device": "cpu"}
    settings = change(Settings(data=str(file)), small | {"method": "lora", "learning_rate": 1e-2}, source="")
    folder = tmp_path / "run"
    write_json(folder / "run.json", {"settings": asdict(settings), "warm_start": None, "resume": None})
    assert train(folder) == 0, read_json(folder / "progress.json")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    loss = [row["loss"] for row in rows if "loss" in row]
    assert len(loss) == 8
    assert loss[-1] < loss[0]
    assert read_json(folder / "opening.json")["tools"] is False
