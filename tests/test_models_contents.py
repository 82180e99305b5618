"""What the files of a model folder say against each other: vocabularies, indexes, sets of weights, headers."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from glmstudio.cli import main
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.glm.load import load_model
from glmstudio.models.contents.torch_table import is_old_form, old_form_length, read_table
from glmstudio.models.contents.vocabulary import compare_vocabulary, read_vocabulary
from glmstudio.models.contents.weight_file import check_weights
from glmstudio.models.folder import folder_problems, weight_files
from glmstudio.models.library import add_folder, ready_model
from glmstudio.models.verify import verify
from glmstudio.paths import DEMO
from tests.vocabulary import VOCABULARY, needs_vocabulary

MODEL = DEMO / "model"
PUBLISHED = {"model_type": "chatglm", "padded_vocab_size": 65024}
TENSORS = load_file(MODEL / "model.safetensors")
NAMES = sorted(TENSORS)
HALVES = [NAMES[: len(NAMES) // 2], NAMES[len(NAMES) // 2 :]]
IDS = torch.tensor([[5, 17, 40, 3, 99, 12, 7]])


@pytest.fixture
def folder(tmp_path: Path, home: Path) -> Path:
    made = tmp_path / "mine"
    shutil.copytree(MODEL, made)
    return made


def shards(folder: Path, end: str, *, index: bool = True) -> None:
    """The model's weights in two shards."""
    stem = "model" if end == "safetensors" else "pytorch_model"
    names = {}
    for number, part in enumerate(HALVES, 1):
        file = folder / f"{stem}-{number:05d}-of-00002.{end}"
        names |= dict.fromkeys(part, file.name)
        held = {name: TENSORS[name] for name in part}
        save_file(held, file) if end == "safetensors" else torch.save(held, file)
    if index:
        (folder / f"{stem}.{end}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


# ---- vocabularies


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound vocabulary of 5,000 tokens, for which the demo model has no rows."""
    place = tmp_path_factory.mktemp("vocabulary")
    text = "\n".join(f"{chr(0x4E00 + n % 4000)} word{n} {n * 7919 % 10007}x" for n in range(9000))
    (place / "words.txt").write_text(text, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(place / "words.txt"), model_prefix=str(place / "v"), vocab_size=5000, character_coverage=1.0,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return (place / "v.model").read_bytes()


def test_a_vocabulary_that_is_none_or_not_of_these_weights_is_found(folder: Path, larger: bytes) -> None:
    file = folder / "tokenizer.model"
    whole = file.read_bytes()
    wrong = {
        whole[:12_000]: f"The vocabulary {file} is cut off, or is not a vocabulary of this kind of model.",
        b"<!DOCTYPE html><html><body>Please log in.</body></html>": f"The file {file} is a page of a website, not the "
        "file of that name: perhaps a login page or an error message.",
        b"\n <HTML><body>": f"The file {file} is a page of a website, not the file of that name: perhaps a login page or an "
        "error message.",
        b'{"version": "1.0", "model": {}}': f"The vocabulary {file} is cut off, or is not a vocabulary of this kind of model.",
        larger: f"The vocabulary {file} has 5009 tokens, and the weights beside it have 1600 rows for them: it belongs to "
        "another model.",
    }
    for data, said in wrong.items():
        file.write_bytes(data)
        assert [problem.what() for problem in verify(folder, full=True)] == [said]
        for use in (lambda: Tokenizer(folder), lambda: add_folder(str(folder)), lambda: ready_model(str(folder))):
            with pytest.raises(StudioError) as error:
                use()
            assert error.value.what() == said
    file.write_bytes(whole)
    assert verify(folder, full=True) == []


@given(at=st.integers(1, 25_000))
@settings(max_examples=60, deadline=None)
def test_a_vocabulary_cut_anywhere_is_broken(at: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("cut") / "tokenizer.model"
    whole = (MODEL / "tokenizer.model").read_bytes()
    file.write_bytes(whole[: min(at, len(whole) - 1)])
    with pytest.raises(StudioError):
        read_vocabulary(file)


@needs_vocabulary
def test_chatglm3s_vocabulary_is_known_by_what_it_makes_of_texts(tmp_path: Path) -> None:
    published = VOCABULARY / "tokenizer.model"
    compare_vocabulary(published, PUBLISHED, [])
    swapped = bytearray(published.read_bytes())
    first, second = (swapped.index(word.encode()) for word in ("你好", "北京"))
    swapped[first : first + 6], swapped[second : second + 6] = "北京".encode(), "你好".encode()
    (tmp_path / "tokenizer.model").write_bytes(swapped)
    with pytest.raises(StudioError) as error:
        compare_vocabulary(tmp_path / "tokenizer.model", PUBLISHED, [])
    assert error.value.key == "models.vocabulary_other"
    with pytest.raises(StudioError) as error:
        compare_vocabulary(MODEL / "tokenizer.model", PUBLISHED, [])
    assert error.value.key == "models.vocabulary_size"


# ---- sets of weights


@pytest.mark.parametrize("end", ["bin", "safetensors"])
def test_shards_without_their_index_are_told_and_repaired(
    end: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "model.safetensors").unlink()
    shards(folder, end, index=False)
    index = folder / ("model.safetensors.index.json" if end == "safetensors" else "pytorch_model.bin.index.json")
    (problem,) = verify(folder)
    assert str(problem) == (
        f"The index {index} is missing; of the weights that it lists, 2 of 2 files are there. Repair the model in the Model "
        "step, or with `python launcher.py models repair`: only what is missing is downloaded, and an index has a few KB."
    )
    assert main(["models", "repair", str(folder)]) == 0, capsys.readouterr()
    assert verify(folder, full=True) == []
    assert set(json.loads(index.read_text())["weight_map"]) == set(NAMES)
    assert torch.equal(load_model(folder, device="cpu")(IDS).logits, load_model(MODEL, device="cpu")(IDS).logits)


def test_shards_that_are_not_all_there_say_how_many(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    shards(folder, "bin", index=False)
    (folder / "pytorch_model-00001-of-00002.bin").unlink()
    (problem,) = verify(folder)
    assert "1 of 2 files are there" in problem.what()
    assert main(["models", "repair", str(folder)]) == 1  # it is at no hub, and its file cannot be made up


def harm_cut(folder: Path) -> None:
    file = folder / "model-00001-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-50])


HARMS: dict[str, Any] = {
    "cut": harm_cut,
    "missing": lambda folder: (folder / "model-00002-of-00002.safetensors").unlink(),
    "no index": lambda folder: (folder / "model.safetensors.index.json").unlink(),
    "bad index": lambda folder: (folder / "model.safetensors.index.json").write_text("{"),
    "other index": lambda folder: (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"x": "model-00001-of-00002.safetensors"}})
    ),
}


@pytest.mark.parametrize("second", ["bin", "one bin"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_whole_set_beside_a_broken_one_is_used(harm: str, second: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    shards(folder, "safetensors")
    HARMS[harm](folder)
    if second == "bin":
        shards(folder, "bin")
    else:
        torch.save(TENSORS, folder / "pytorch_model.bin")
    assert verify(folder, full=True) == []
    assert {file.suffix for file in weight_files(folder)} == {".bin"}
    assert torch.equal(load_model(folder, device="cpu")(IDS).logits, load_model(MODEL, device="cpu")(IDS).logits)


def test_tensors_without_numbers_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({name: torch.empty(0) for name in NAMES}, folder / "pytorch_model.bin")
    said = f"The file {folder}/pytorch_model.bin names tensors but holds no numbers for them: it was saved under ZeRO-3"
    assert verify(folder, full=True)[0].what().startswith(said)
    with pytest.raises(StudioError, match="holds no numbers for them"):
        load_model(folder, device="cpu")


# ---- files of torch.save, without torch


DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.int8, torch.uint8, torch.int64)
TABLES = st.dictionaries(
    st.text(min_size=1, max_size=12),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3)),
    max_size=6,
)


@given(table=TABLES, zipped=st.booleans(), wrapped=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_is_what_torch_saved(table: Any, zipped: bool, wrapped: bool, tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    tensors = {name: torch.zeros(shape, dtype=kind) for name, (kind, shape) in table.items()}
    torch.save({"state_dict": tensors} if wrapped else tensors, file, _use_new_zipfile_serialization=zipped)
    found = read_table(file)
    assert {name: each.shape for name, each in found.items()} == {
        name: tuple(each.shape) for name, each in tensors.items()
    }
    assert all(found[name].bits == 8 * each.element_size() for name, each in tensors.items())
    assert is_old_form(file) is not zipped
    if not zipped:
        assert old_form_length(file) == file.stat().st_size
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(StudioError):
            check_weights(file)


@given(noise=st.binary(min_size=1, max_size=30), at=st.integers(0, 3000), zipped=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wrong_bytes_in_a_table_end_in_a_value_error_or_in_words(
    noise: bytes, at: int, zipped: bool, tmp_path: Path
) -> None:
    file = tmp_path / "x.bin"
    torch.save({"a": torch.zeros(3, 4), "b": {"c": torch.ones(2)}}, file, _use_new_zipfile_serialization=zipped)
    data = bytearray(file.read_bytes())
    at %= len(data)
    data[at : at + len(noise)] = noise
    file.write_bytes(data)
    for look in (read_table, check_weights):
        with contextlib.suppress(ValueError, StudioError):
            look(file)


def test_an_old_form_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    torch.save({"a": torch.zeros(300)}, file, _use_new_zipfile_serialization=False)
    data = file.read_bytes()
    assert data.count(b"M,\x01") >= 1  # 300, as BININT2
    file.write_bytes(data.replace(b"M,\x01", b"\x8a\x05\xff\xff\xff\xff\x7f"))  # 550 billion
    with pytest.raises(StudioError) as error:
        check_weights(file)
    assert error.value.key == "models.truncated"


def test_a_base_in_the_old_form_is_loaded(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(TENSORS, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert list(folder_problems(folder)) == verify(folder, full=True) == []
    assert torch.equal(load_model(folder, device="cpu")(IDS).logits, load_model(MODEL, device="cpu")(IDS).logits)
