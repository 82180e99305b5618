"""LoRA and whole models: what PEFT makes of our adapters, what we make of official ones, merging, small weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import GlmForCausalLM

from glmstudio.errors import StudioError
from glmstudio.glm.adapters.lora import ATTENTION, EVERY, Lora, attach_lora, merge_lora
from glmstudio.glm.adapters.lora_files import load_lora, save_lora
from glmstudio.glm.export_process import export
from glmstudio.glm.load import load_model
from glmstudio.glm.weights.whole_model import read_whole, save_whole
from glmstudio.models.exports.export_request import ExportRequest
from glmstudio.models.folder import check_folder

MODEL = Path(__file__).parent / "golden/model"
IDS = torch.tensor([[5, 17, 40, 3, 99, 12, 7]])


def fresh() -> GlmForCausalLM:
    return load_model(MODEL, dtype=torch.float32, device="cpu")


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def taught(targets: tuple[str, ...] = ATTENTION) -> GlmForCausalLM:
    """A model whose adapter does something."""
    torch.manual_seed(3)
    model = fresh()
    attach_lora(model, Lora(4, 8.0, 0.0, targets))
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.normal_(std=0.3)
    return model.eval()


def test_a_fresh_adapter_changes_nothing_and_is_all_that_learns() -> None:
    model = fresh()
    before = logits(model)
    attach_lora(model, Lora(4, 8.0, 0.1, EVERY))

    assert torch.equal(logits(model.eval()), before)
    learning = [name for name, each in model.named_parameters() if each.requires_grad]
    assert len(learning) == 2 * len(EVERY) * model.config.num_hidden_layers
    assert all("lora_" in name for name in learning)


@pytest.mark.parametrize("targets", [ATTENTION, EVERY])
def test_peft_itself_makes_the_same_of_our_adapter(tmp_path: Path, targets: tuple[str, ...]) -> None:
    model = taught(targets)
    save_lora(model, tmp_path, base="golden")
    theirs = PeftModel.from_pretrained(fresh(), str(tmp_path)).eval()

    assert torch.allclose(logits(theirs), logits(model), atol=1e-6)
    assert torch.equal(logits(load_model(MODEL, tmp_path, dtype=torch.float32, device="cpu")), logits(model))
    assert not torch.allclose(logits(fresh()), logits(model), atol=1e-2)


@pytest.mark.parametrize("rslora", [False, True])
def test_an_official_adapter_is_the_same_product(tmp_path: Path, rslora: bool) -> None:
    torch.manual_seed(4)
    model = fresh()
    config = model.config
    rank, alpha, wide = 4, 8.0, config.num_attention_heads * config.head_dim
    rows = wide + 2 * config.num_key_value_heads * config.head_dim
    tensors: dict[str, torch.Tensor] = {}
    scale = alpha / rank**0.5 if rslora else alpha / rank
    with torch.no_grad():
        for index, layer in enumerate(model.model.layers):
            a, b = torch.randn(rank, config.hidden_size) * 0.2, torch.randn(rows, rank) * 0.2
            where = f"base_model.model.transformer.encoder.layers.{index}.self_attention.query_key_value"
            tensors |= {f"{where}.lora_A.weight": a, f"{where}.lora_B.weight": b}
            whole = (b @ a * scale).split([wide, (rows - wide) // 2, (rows - wide) // 2])
            for name, piece in zip("qkv", whole, strict=True):
                getattr(layer.self_attn, f"{name}_proj").weight += piece
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["query_key_value"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(about | {"use_rslora": rslora, "lora_dropout": 0.1}))

    loaded = load_model(MODEL, tmp_path, dtype=torch.float32, device="cpu")
    assert torch.allclose(logits(loaded), logits(model), atol=1e-5)


def test_merged_is_what_it_was_with_its_adapter(tmp_path: Path) -> None:
    model = taught(EVERY)
    before = logits(model)
    merge_lora(model)
    assert torch.allclose(logits(model), before, atol=1e-5)
    assert not [name for name, _ in model.named_modules() if "lora" in name]
    save_whole(model, tmp_path / "whole", base=MODEL)
    assert torch.equal(logits(load_model(tmp_path / "whole", dtype=torch.float32, device="cpu")), logits(model))


def test_an_export_writes_each_form(tmp_path: Path) -> None:
    source = tmp_path / "source"
    model = taught()
    save_lora(model, source, base="golden")
    for form in ("peft", "merged"):
        export(ExportRequest(form, str(MODEL), "golden", str(tmp_path / form), form, learned=str(source)))

    assert sorted(file.name for file in (tmp_path / "peft").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    merged = load_model(tmp_path / "merged", dtype=torch.float32, device="cpu")
    assert torch.allclose(logits(merged), logits(model), atol=0.05), "16-bit numbers"
    assert {tensor.dtype for tensor in load_file(tmp_path / "merged/model.safetensors").values()} == {torch.float16}


@pytest.mark.parametrize(
    "change",
    [
        {"r": "many"},
        {"r": 0},
        {"r": 10**9},
        {"lora_alpha": None},
        {"target_modules": []},
        {"target_modules": ["lm_head"]},
        {"target_modules": {"a": 1}},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"q_proj": 2}},
        {"peft_type": "IA3"},
        {"lora_dropout": 2},
        {"r": float("inf")},
        {"lora_alpha": float("nan")},
        {"lora_alpha": float("inf")},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"use_qalora": True},
        {"alora_invocation_tokens": [1]},
    ],
)
def test_an_adapter_that_is_something_else_is_refused_in_words(tmp_path: Path, change: dict[str, Any]) -> None:
    save_lora(taught(), tmp_path, base="golden")
    about = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(about | change))
    with pytest.raises(StudioError, match=r"holds an adapter of the type (LORA|IA3)"):
        load_model(MODEL, tmp_path, dtype=torch.float32, device="cpu")


@pytest.mark.parametrize("harm", ["shape", "missing", "nan", "cut"])
def test_an_adapter_with_wrong_numbers_is_refused_in_words(tmp_path: Path, harm: str) -> None:
    save_lora(taught(), tmp_path, base="golden")
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    name = min(tensors)
    if harm == "shape":
        tensors[name] = tensors[name][:, :-1].contiguous()
    elif harm == "missing":
        del tensors[name]
    elif harm == "nan":
        tensors[name][0] = float("nan")
    save_file(tensors, file)
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(StudioError):
        load_lora(tmp_path, fresh())


def test_a_whole_model_is_written_in_shards_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmstudio.glm.weights.whole_model._SHARD", "200KB")
    model = fresh()
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.01)
    save_whole(model, tmp_path, base=MODEL)
    check_folder_but_tokenizer(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    numbers = dict(model.named_parameters())
    shapes = {name: each.shape for name, each in numbers.items()}
    found = dict(read_whole(tmp_path, shapes, model.config))
    assert found.keys() == numbers.keys()
    assert all(torch.equal(found[name], each) for name, each in numbers.items())
    for wrong in ({"model.norm.weight": torch.Size([3])}, {"another": torch.Size([3])}):
        with pytest.raises(StudioError):
            dict(read_whole(tmp_path, shapes | wrong, model.config))
    next(tmp_path.glob("model-*.safetensors")).unlink()
    with pytest.raises(StudioError):
        dict(read_whole(tmp_path, shapes, model.config))


def check_folder_but_tokenizer(folder: Path) -> None:
    """The golden model has no tokenizer of its own; everything else must be whole."""
    (folder / "tokenizer.model").write_bytes(b"x")
    check_folder(folder)


def test_what_16_bits_cannot_hold_is_written_in_a_type_that_can(tmp_path: Path) -> None:
    model = fresh()
    with torch.no_grad():
        model.model.norm.weight[0] = 1e6
    save_whole(model, tmp_path, base=MODEL, dtype=torch.float16)
    tensors = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
