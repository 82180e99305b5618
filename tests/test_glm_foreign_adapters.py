"""Adapters as other trainers save them: prefixes in newer and older files, and LoRA in its other words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from glmstudio.chat.adapters import check_base
from glmstudio.config.presets import find_preset
from glmstudio.errors import StudioError
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.glm.adapters.lora_files import save_lora
from glmstudio.glm.load import load_model
from glmstudio.models.library import ready_model
from glmstudio.models.verify import verify
from glmstudio.paths import DEMO, SAMPLE
from glmstudio.planning.resolve import RunRequest, resolve
from tests.test_models_contents import shards

MODEL = DEMO / "model"
CONFIG = json.loads((MODEL / "config.json").read_text())
TENSORS = load_file(MODEL / "model.safetensors")
LAYERS, HIDDEN = CONFIG["num_layers"], CONFIG["hidden_size"]
WIDTH = CONFIG["multi_query_group_num"] * CONFIG["kv_channels"]
IDS = torch.tensor([[5, 17, 40, 3, 99, 12, 7]])
KEY = "transformer.prefix_encoder.embedding.weight"
PREFIX = torch.randn(6, 2 * LAYERS * WIDTH, generator=torch.Generator().manual_seed(0))


def logits(adapter: Path | None = None, model: Path = MODEL) -> torch.Tensor:
    with torch.inference_mode():
        return load_model(model, adapter, device="cpu")(IDS).logits


@pytest.fixture(scope="module")
def with_prefix(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """What the demo model answers with the prefix, loaded from the official form."""
    folder = tmp_path_factory.mktemp("official")
    torch.save({KEY: PREFIX}, folder / "pytorch_model.bin")
    found = logits(folder)
    assert not torch.equal(found, logits())
    return found


# ---- prefixes


def write(folder: Path, tensors: dict[str, Any], form: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"pre_seq_len": 6, "prefix_projection": False}))
    if form == "safetensors":
        save_file(tensors, folder / "model.safetensors")
    else:
        name = "prefix_encoder.pt" if form == "other name" else "pytorch_model.bin"
        torch.save(tensors, folder / name, _use_new_zipfile_serialization=form != "old")
    return folder


@pytest.mark.parametrize("form", ["safetensors", "zip", "old", "other name"])
@pytest.mark.parametrize(
    "key", [KEY, f"module.{KEY}", f"base_model.model.{KEY}", "prefix_encoder.embedding.weight", "embedding.weight", "module.embedding.weight"]
)  # fmt: skip
def test_a_prefix_loads_from_any_file_under_any_name(
    form: str, key: str, with_prefix: torch.Tensor, tmp_path: Path
) -> None:
    assert torch.equal(logits(write(tmp_path / "prefix", {key: PREFIX}, form)), with_prefix)


def test_a_prefix_within_a_table_loads(with_prefix: torch.Tensor, tmp_path: Path) -> None:
    assert torch.equal(
        logits(write(tmp_path / "prefix", {"state_dict": {KEY: PREFIX}, "epoch": 3}, "zip")), with_prefix
    )


@pytest.fixture(params=["safetensors", "zip", "old", "shards"])
def whole(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Path:
    """A checkpoint of the official script with P-Tuning: the whole model, and its prefix among the tensors."""
    folder = tmp_path / "checkpoint-100"
    folder.mkdir()
    if request.param == "shards":
        shards(folder, "safetensors")
        save_file({KEY: PREFIX}, folder / "model-00003-of-00003.safetensors")
        index = folder / "model.safetensors.index.json"
        table = json.loads(index.read_text())
        index.write_text(json.dumps({"weight_map": table["weight_map"] | {KEY: "model-00003-of-00003.safetensors"}}))
        (folder / "config.json").write_text(json.dumps(CONFIG | {"pre_seq_len": 6}))
    else:
        write(folder, TENSORS | {KEY: PREFIX}, request.param)
    (folder / "tokenizer.model").write_bytes((MODEL / "tokenizer.model").read_bytes())
    return folder


def test_a_whole_checkpoint_answers_with_its_prefix(whole: Path, with_prefix: torch.Tensor, tmp_path: Path) -> None:
    assert verify(whole, full=True) == []
    assert torch.equal(logits(model=whole), with_prefix), "as a model"
    assert torch.equal(logits(whole), with_prefix), "as an adapter of the base"

    pool = AdapterPool(load_model(ready_model(str(whole)).path, device="cpu"))
    other = write(tmp_path / "other", {KEY: PREFIX * 0.5}, "zip")
    pool.add("other", other)
    with torch.inference_mode():
        for name in ("", "other", ""):
            pool.use(name)
            wanted = logits(other) if name else with_prefix
            assert torch.equal(pool.model(IDS).logits, wanted), name


def test_a_whole_checkpoint_is_not_trained_as_if_it_were_a_base(whole: Path) -> None:
    request = RunRequest(find_preset("demo/ptuning_v2"), SAMPLE, changes={"model": str(whole)})
    problem = resolve(request).problem
    assert problem is not None
    assert problem.key == "models.holds_prefix"
    assert problem.fix().endswith(f"start from it: `--set warm_start={whole}`.")
    start = RunRequest(
        find_preset("demo/ptuning_v2"), SAMPLE, changes={"method": "ptuning_v2", "warm_start": str(whole)}
    )
    assert resolve(start).warm_start == whole


@pytest.mark.parametrize("key", [KEY, "embedding.weight"])
def test_an_empty_prefix_names_zero3(key: str, tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="holds no numbers: it was saved under ZeRO-3"):
        logits(write(tmp_path / "prefix", {key: torch.empty(0)}, "zip"))


def test_a_model_without_a_prefix_is_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(StudioError) as error:
        logits(write(tmp_path / "whole", TENSORS, "safetensors"))
    assert error.value.key == "adapters.none"


# ---- LoRA


ABOUT = {
    "peft_type": "LORA", "r": 8, "lora_alpha": 32, "lora_dropout": 0.1, "bias": "none", "target_modules": ["query_key_value"],
    "base_model_name_or_path": "somewhere/chatglm3-6b",
}  # fmt: skip


def matrices(
    layers: Any = range(LAYERS), middle: str = "", before: str = "base_model.model."
) -> dict[str, torch.Tensor]:
    made = {}
    for layer in layers:
        chance = torch.Generator().manual_seed(layer)
        for which, shape in (("A", (8, HIDDEN)), ("B", (HIDDEN + 2 * WIDTH, 8))):
            name = (
                f"{before}transformer.encoder.layers.{layer}.self_attention.query_key_value.lora_{which}{middle}.weight"
            )
            made[name] = torch.randn(*shape, generator=chance) / 10
    return made


def lora(folder: Path, tensors: dict[str, torch.Tensor], *, old: bool = False, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(ABOUT | more))
    torch.save(tensors, folder / "adapter_model.bin", _use_new_zipfile_serialization=not old)
    return folder


@pytest.fixture(scope="module")
def with_lora(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return logits(lora(tmp_path_factory.mktemp("plain"), matrices()))


BASE_TOO = {
    "base_model.model.transformer.encoder.layers.0.self_attention.query_key_value.base_layer.weight": torch.ones(2)
}
SAME: dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]] = {
    "default": (matrices(middle=".default"), {}),
    "another name": (matrices(middle=".my-adapter_2"), {}),
    "raw": (matrices(before=""), {}),
    "module": (matrices(before="module.base_model.model."), {}),
    "the base beside it": (matrices(middle=".default") | BASE_TOO, {}),
    "old form": (matrices(), {"old": True}),
    "pattern": (matrices(), {"target_modules": r".*\.self_attention\.query_key_value$"}),
    "pattern of layers": (matrices(), {"target_modules": r"transformer\.encoder\.layers\.\d+\.self_attention\.query_key_value"}),
    "pattern that would not end": (matrices(), {"target_modules": "(a+)+" * 20 + "$"}),
    "whole names": (matrices(), {"target_modules": [f"encoder.layers.{n}.self_attention.query_key_value" for n in range(LAYERS)]}),
    "longer names": (matrices(), {"target_modules": ["self_attention.query_key_value"]}),
    "all of the layers": (matrices(), {"layers_to_transform": [*range(LAYERS)]}),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_lora_in_other_words_is_the_same_adapter(case: str, with_lora: torch.Tensor, tmp_path: Path) -> None:
    tensors, more = SAME[case]
    assert torch.equal(logits(lora(tmp_path / "adapter", tensors, **more)), with_lora)


@given(
    layers=st.sets(st.integers(0, LAYERS - 1), min_size=1),
    said=st.sampled_from(["layers_to_transform", "names", "pattern"]),
)
@settings(max_examples=12, deadline=None)
def test_lora_of_some_layers_stands_beside_those_alone(
    layers: set[int], said: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("some")
    chosen = sorted(layers)
    more: dict[str, Any] = {
        "layers_to_transform": {"layers_to_transform": chosen[0] if len(chosen) == 1 else chosen},
        "names": {"target_modules": [f"layers.{layer}.self_attention.query_key_value" for layer in chosen]},
        "pattern": {"target_modules": rf".*layers\.({'|'.join(map(str, chosen))})\.self_attention\.query_key_value"},
    }[said]
    rest = {name: tensor * 0 for name, tensor in matrices(set(range(LAYERS)) - layers).items() if "lora_B" in name}
    whole = {**matrices(), **rest}
    part = load_model(MODEL, lora(folder / "part", matrices(chosen), **more), device="cpu")
    with torch.inference_mode():
        assert torch.allclose(part(IDS).logits, logits(lora(folder / "whole", whole)), atol=1e-4)
    save_lora(part, folder / "again", base="demo")
    with torch.inference_mode():
        assert torch.equal(logits(folder / "again"), part(IDS).logits)


ZERO = {name: torch.empty(0) for name in matrices()}
REFUSED: dict[str, tuple[dict[str, torch.Tensor], dict[str, Any], str]] = {
    "zero3": (ZERO, {}, "holds no numbers: it was saved under ZeRO-3"),
    "zero3 in part": (matrices() | dict([*ZERO.items()][:1]), {}, "holds no numbers: it was saved under ZeRO-3"),
    "empty": ({}, {}, "holds no numbers: it was saved under ZeRO-3"),
    "no layers of the file": (matrices([0, 2]), {}, "does not hold the layers that its adapter_config.json names: they differ at layers.1."),
    "half": (dict([*matrices().items()][1:]), {}, "does not hold the layers that its adapter_config.json names"),
    "other targets": (matrices(), {"target_modules": ["query_key_value", "dense"]}, "they differ at layers.0.o_proj"),
    "two at once": (matrices(middle=".a") | matrices(middle=".b"), {}, "holds several adapters at once"),
    "more is saved": (matrices() | {"base_model.model.modules_to_save.x": torch.ones(2)}, {}, "of the type LORA, modules_to_save"),
    "dora": (matrices(), {"use_dora": True}, "of the type LORA, use_dora"),
    "fewer layers": (matrices(range(LAYERS - 1)), {}, "made for a model of another size"),
    "more layers": (matrices(range(LAYERS + 1)), {}, "made for a model of another size"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_lora_that_cannot_be_loaded_names_the_cause(case: str, tmp_path: Path) -> None:
    tensors, more, said = REFUSED[case]
    with pytest.raises(StudioError) as error:
        logits(lora(tmp_path / "adapter", tensors, **more))
    assert said in error.value.what()


def test_an_adapters_missing_file_is_not_repaired_from_a_hub(tmp_path: Path) -> None:
    folder = lora(tmp_path / "adapter", matrices())
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(StudioError) as error:
        logits(folder)
    assert str(error.value) == (
        f"The file {folder}/adapter_model.bin is missing. Copy this file again from where the adapter was trained, or use "
        "another checkpoint."
    )


@pytest.mark.parametrize("base", ["THUDM/chatglm2-6b", "/models/glm-4-9b-chat"])
def test_an_adapter_of_another_family_is_named(base: str, tmp_path: Path, home: Path) -> None:
    folder = lora(tmp_path / "adapter", matrices(), base_model_name_or_path=base)
    prefix = write(tmp_path / "prefix", {KEY: PREFIX}, "zip")
    (prefix / "config.json").write_text(json.dumps({"_name_or_path": base, "pre_seq_len": 6}))
    for each in (folder, prefix):
        for use in (*([logits] if "chatglm2" in base else []), lambda each: check_base("demo", each)):
            with pytest.raises(StudioError) as error:
                use(each)
            assert error.value.key == "adapters.other_family"
