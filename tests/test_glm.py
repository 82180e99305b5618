"""The native model against the original code's numbers, through every adapter format, and wrong folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import GlmForCausalLM

from glmstudio.errors import StudioError
from glmstudio.glm import load_model
from glmstudio.glm.adapters.adapter_files import save_official, save_peft, save_prefix

GOLDEN = Path(__file__).parent / "golden"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))["cases"]
KINDS = ["base", "prefix", "prefix_projection"]


def adapter(kind: str) -> Path | None:
    return None if kind == "base" else GOLDEN / kind


def golden(kind: str) -> GlmForCausalLM:
    return load_model(GOLDEN / "model", adapter(kind), device="cpu")


def tensors(case: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([case["input_ids"]]).view(1, -1)
    labels = ids.clone()
    labels[:, : case["labels_ignore_first"]] = -100
    return ids, labels


def assert_equals_original(model: GlmForCausalLM, kind: str) -> None:
    assert len(EXPECTED[kind]) == 3
    for case in EXPECTED[kind]:
        ids, labels = tensors(case)
        with torch.no_grad():
            output = model(input_ids=ids, labels=labels)
        torch.testing.assert_close(output.logits[0, -1], torch.tensor(case["last_logits"]), atol=1e-5, rtol=0)
        assert output.loss.item() == pytest.approx(case["loss"], abs=1e-5)
        tokens = model.generate(ids, max_new_tokens=16, do_sample=False, eos_token_id=None, pad_token_id=0)
        assert tokens[0, ids.shape[1] :].tolist() == case["greedy_16"]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_losses_and_greedy_tokens_equal_the_original(kind: str) -> None:
    assert_equals_original(golden(kind), kind)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_gradients_equal_the_original(kind: str, checkpointing: bool) -> None:
    model = golden(kind)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        model.prefix.dropout.p = 0.0
    for case in EXPECTED[kind]:
        model.zero_grad()
        ids, labels = tensors(case)
        model(input_ids=ids, labels=labels).loss.backward()
        for name, norm in case["prefix_grad_norms"].items():
            parameter = model.prefix.get_parameter(name.removeprefix("prefix_encoder."))
            assert parameter.grad is not None
            assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("form", ["ours", "official", "peft"])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_an_adapter_survives_each_format(kind: str, form: str, tmp_path: Path) -> None:
    model = golden(kind)
    if form == "ours":
        save_prefix(model, tmp_path, base="golden")
    elif form == "official":
        save_official(model, tmp_path)
    else:
        save_peft(model, tmp_path, base="golden")
    assert_equals_original(load_model(GOLDEN / "model", tmp_path, device="cpu"), kind)


def test_peft_itself_loads_our_peft_format(tmp_path: Path) -> None:
    from peft import PeftModel

    save_peft(golden("prefix"), tmp_path, base="golden")
    model = PeftModel.from_pretrained(golden("base"), str(tmp_path))
    for case in EXPECTED["prefix"]:
        ids, _ = tensors(case)
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -1]
        torch.testing.assert_close(logits, torch.tensor(case["last_logits"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_left_padding_changes_nothing(kind: str) -> None:
    model = golden(kind)
    cases = EXPECTED[kind][:2]
    width = max(len(case["input_ids"]) for case in cases)
    ids = torch.tensor([[0] * (width - len(case["input_ids"])) + case["input_ids"] for case in cases])
    mask = torch.tensor([[0] * (width - len(case["input_ids"])) + [1] * len(case["input_ids"]) for case in cases])
    tokens = model.generate(
        ids, attention_mask=mask, max_new_tokens=16, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert [row[width:].tolist() for row in tokens] == [case["greedy_16"] for case in cases]


@pytest.mark.parametrize("sharded", [False, True])
def test_safetensors_load_like_bin(tmp_path: Path, sharded: bool) -> None:
    shards = [torch.load(file, weights_only=True) for file in sorted((GOLDEN / "model").glob("pytorch_model-*.bin"))]
    shutil.copy(GOLDEN / "model/config.json", tmp_path)
    if sharded:
        names = ["model-1.safetensors", "model-2.safetensors"]
        index = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        for name, shard in zip(names, shards, strict=True):
            save_file({key: tensor.contiguous() for key, tensor in shard.items()}, tmp_path / name)
    else:
        merged = {key: tensor.contiguous() for shard in shards for key, tensor in shard.items()}
        save_file(merged, tmp_path / "model.safetensors")
    assert_equals_original(load_model(tmp_path, device="cpu"), "base")


def test_rope_ratio_stretches_the_angles(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN / "model", tmp_path / "long")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rope_ratio": 50}))
    model = load_model(folder, device="cpu")
    assert model.config.rope_parameters["rope_theta"] == 500_000
    want = 1 / 500_000 ** (torch.arange(0, 8, 2) / 8)
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, want)


def spoil(folder: Path, how: str) -> None:
    shard = folder / "pytorch_model-00002-of-00002.bin"
    config = json.loads((folder / "config.json").read_text())
    if how == "pointer":
        shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    elif how == "truncated":
        shard.write_bytes(shard.read_bytes()[:-1000])
    elif how == "missing":
        shard.unlink()
    elif how == "foreign":
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "half config":
        del config["num_layers"]
        (folder / "config.json").write_text(json.dumps(config))
    elif how == "other size":
        (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 128}))
    elif how == "pickle":
        torch.save({"transformer.x": Path("x")}, shard)
    elif how == "incomplete":
        index = json.loads((folder / "pytorch_model.bin.index.json").read_text())
        kept = {k: v for k, v in index["weight_map"].items() if not v.endswith("00002-of-00002.bin")}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": kept}))
    elif how == "bad json":
        (folder / "pytorch_model.bin.index.json").write_text("{")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("pointer", r"The file .*00002-of-00002\.bin is a placeholder of 6\d bytes; .* Download this file"),
        ("truncated", r"The file .*00002-of-00002\.bin is cut off or damaged\. Repair the model"),
        ("missing", r"The file .*00002-of-00002\.bin is missing\. Repair the model"),
        (
            "foreign",
            r"config\.json describes Llama \(type “llama”\); the studio works with ChatGLM3, GLM-4-9B, GLM-Z1-9B and GLM-Edge\. Choose",
        ),
        ("no config", r"has no config\.json, so it is not a model\. Choose the folder"),
        ("half config", r"config\.json lacks the values num_layers\. Download this file again"),
        (
            "other size",
            r"holds “transformer\..*”, which does not fit the model that this config\.json describes\. Download",
        ),
        ("pickle", r"The file .*00002-of-00002\.bin cannot be read as plain weights\. Download this file again"),
        ("incomplete", r"are incomplete: \d+ tensors are missing, the first is “.*”\. Download the whole model"),
        ("bad json", r"The file .*pytorch_model\.bin\.index\.json is damaged\. Download this file again"),
    ],
)
def test_a_wrong_folder_is_one_clear_error(tmp_path: Path, how: str, words: str) -> None:
    folder = shutil.copytree(GOLDEN / "model", tmp_path / "model")
    spoil(folder, how)
    with pytest.raises(StudioError, match=words):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "nowhere", "There is no fine-tuned model at"),
        (lambda folder: folder, "holds neither a prefix nor an adapter"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x") and folder, "is cut off or damaged"),
        (
            lambda folder: torch.save({"transformer.prefix_encoder.embedding.weight": torch.ones(4, 9)}, folder / "pytorch_model.bin") or folder,
            "was made for a model of another size",
        ),
        (
            lambda folder: torch.save({"transformer.prefix_encoder.embedding.weight": torch.full((4, 128), torch.nan)}, folder / "pytorch_model.bin") or folder,
            "contains infinite or NaN values",
        ),
        (
            lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}') and folder,
            "holds an adapter of the type LORA",
        ),
    ],
)  # fmt: skip
def test_a_wrong_adapter_is_an_error_and_never_the_base_model(tmp_path: Path, make: Any, words: str) -> None:
    with pytest.raises(StudioError, match=words):
        load_model(GOLDEN / "model", make(tmp_path), device="cpu")


@pytest.mark.slow  # 12 s
@pytest.mark.parametrize("form", ["one.bin", "shards.safetensors"])
def test_loading_never_holds_the_weights_twice(form: str) -> None:
    from tests.bench.load_memory import measure

    assert measure(0.25, (form,))[form] < 1.2
