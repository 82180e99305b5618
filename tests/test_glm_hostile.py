"""Hostile folders, names and answers end in words: adapters, weights, vocabularies, terminals."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from glmstudio.cli import main
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.glm.load import load_model
from glmstudio.models.folder import check_weights, folder_problems
from glmstudio.paths import DEMO, paths
from glmstudio.planning.model_shape import shape_of

MODEL = DEMO / "model"


@pytest.fixture(scope="module")
def shelf() -> AdapterPool:
    return AdapterPool(load_model(MODEL))


def lora(folder: Path, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    about = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(about | more))
    save_file({"a": torch.zeros(2)}, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(
    "more",
    [
        {"target_modules": ["a" * 300_000]}, {"target_modules": ["a." * 150_000 + "q_proj"]}, {"target_modules": ["q_proj"] * 5000},
        {"r": 10**30}, {"r": "x"}, {"r": None}, {"lora_alpha": "nan"}, {"lora_dropout": []}, {"peft_type": ["LORA"]},
        {"target_modules": {"q_proj": 1}}, {"target_modules": [[[]]]}, {"init_lora_weights": {"a": 1}}, {"r": 0}, {"r": -1},
    ],
)  # fmt: skip
def test_a_hostile_adapter_is_refused_in_words(more: dict[str, Any], shelf: AdapterPool, tmp_path: Path) -> None:
    with pytest.raises(StudioError):
        shelf.add("x", lora(tmp_path / "adapter", **more))
    assert shelf.names == []


def test_a_small_file_that_describes_a_huge_tensor(shelf: AdapterPool, tmp_path: Path) -> None:
    folder = tmp_path / "prefix"
    folder.mkdir()
    table = torch.zeros(1).expand(2_000_000_000, 4)
    torch.save({"transformer.prefix_encoder.embedding.weight": table}, folder / "pytorch_model.bin")
    assert (folder / "pytorch_model.bin").stat().st_size < 4096
    with pytest.raises(StudioError) as error:
        shelf.add("x", folder)
    assert error.value.key == "models.damaged"


@given(noise=st.binary(min_size=1, max_size=60), at=st.integers(0, 60_000))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_vocabulary_with_wrong_bytes_is_refused_or_works(noise: bytes, at: int, tmp_path: Path) -> None:
    whole = bytearray((MODEL / "tokenizer.model").read_bytes())
    at %= len(whole)
    whole[at : at + len(noise)] = noise
    (tmp_path / "tokenizer.model").write_bytes(whole)
    with contextlib.suppress(StudioError):  # nothing else may come of it
        assert Tokenizer(tmp_path).encode("text")


HEADS: list[dict[str, Any]] = [
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}},
    {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}, {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}},
    {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, {"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 8]}},
    {"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
    {"a": {"dtype": "F32", "shape": [10**400], "data_offsets": [0, 8]}}, {"a": []},
]  # fmt: skip


@pytest.mark.parametrize("head", [*map(json.dumps, HEADS), "[" * 100_000, '{"a": NaN}'])
def test_a_header_that_lies_is_found_without_loading(head: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(head)) + head.encode() + bytes(16))
    with pytest.raises(StudioError) as error:
        check_weights(file)
    assert error.value.key == "models.truncated"


def test_a_packed_member_is_no_weight_file(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(1_000_000))
    with pytest.raises(StudioError):
        check_weights(file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_layers", 10**7),
        ("num_layers", 0),
        ("num_layers", -1),
        ("hidden_size", 10**12),
        ("layernorm_epsilon", "x"),
        ("rope_ratio", 1e300),
    ],
)
def test_a_config_that_no_model_has(name: str, value: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {name: value}))
    assert [problem.key for problem in folder_problems(folder)] == ["models.impossible"]
    for reads in (shape_of, load_model):
        with pytest.raises(StudioError) as error:
            reads(folder)
        assert error.value.key == "models.impossible"


@pytest.mark.parametrize(
    "names",
    [{"a": "x" * 5000}, {"a": "\x00"}, {"a": "\ud83d"}, {f"t{n}": f"s{n}" for n in range(2000)}, []],
)
def test_an_index_that_names_what_no_hub_has(names: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert [problem.key for problem in folder_problems(folder)] == ["models.bad_json"]


def test_names_do_not_steer_a_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steer = "\x1b]0;mine\x07\x1b[2J\x9b31m"
    folder = paths().runs / "one"
    write_json(folder / "run.json", {"settings": {"model": f"demo{steer}"}, "created": 1.0, "preset": steer})
    write_json(folder / "status.json", {"state": "finished"})
    (folder / "train.log").write_text(f"line {steer}\n")
    write_json(folder / "notes.json", {"note": steer})
    data = home / "data.jsonl"
    data.write_text(json.dumps({"conversations": [{"role": steer}]}) + "\n")
    for command in (
        ["runs", "list"],
        ["runs", "show", "one"],
        ["runs", "show", "one", "--json"],
        ["data", "check", str(data)],
        ["data", "check", str(data), "--json"],
        ["models", "list"],
    ):
        main(command)
    said = capsys.readouterr()
    assert not set("\x1b\x07\x9b") & set(said.out + said.err)
    assert "mine" in said.out


def test_a_full_disk_is_told_as_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from glmstudio.ui.framework.live import _acted
    from glmstudio.ui.framework.registered import Binding
    from glmstudio.ui.state.page_state import PageState

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28), "/there")

    (view,) = _acted(Binding(print, full, []), PageState())
    assert view.problem.what() == "The system refused an operation: No space left on device. /there"
