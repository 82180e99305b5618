"""Base weights in 8 and 4 bits: what they lose, and that one can train and answer through them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from glmstudio.config.settings import Settings
from glmstudio.glm import load_model, quantization
from glmstudio.glm.quantization import Linear4bit, Linear8bit, QuantizedLinear
from glmstudio.paths import DEMO
from tests.bench.old_recipe import conversations
from tests.marks import slow
from tests.published import Shape, write_model
from tests.trainer_helpers import trainer_for

MODEL = DEMO / "model"


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without bitsandbytes."""
    monkeypatch.setattr(quantization, "_library_four", lambda: None)


def linear(wide: int = 200, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(wide, 96, bias=True).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "lost", "bytes_each"), [(Linear8bit, 0.01, 1.0), (Linear4bit, 0.095, 0.5)])
def test_small_weights_lose_little_and_take_little(
    kind: type[QuantizedLinear], lost: float, bytes_each: float, dtype: torch.dtype
) -> None:
    layer = linear(256, dtype)
    small = kind(layer, dtype)
    wide = small.wide(torch.float32)
    error = (wide - layer.weight.float()).norm() / layer.weight.float().norm()
    assert 0 < float(error) < lost
    assert small.weight.nbytes == bytes_each * 256 * 96
    given = torch.randn(3, 7, 256, dtype=dtype)
    wanted = given.float() @ wide.T + layer.bias.float()
    torch.testing.assert_close(small(given).float(), wanted, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("kind", [Linear8bit, Linear4bit])
def test_rows_of_zeros_and_odd_widths_are_kept(kind: type[QuantizedLinear]) -> None:
    layer = linear(70)
    with torch.no_grad():
        layer.weight[3] = 0.0
    wide = kind(layer, torch.float32).wide(torch.float32)
    assert wide.shape == (96, 70)
    assert torch.equal(wide[3], torch.zeros(70))
    assert torch.isfinite(wide).all()


@pytest.mark.parametrize("kind", [Linear8bit, Linear4bit])
def test_the_gradient_goes_through_and_nothing_wide_is_kept(kind: type[QuantizedLinear]) -> None:
    small = kind(linear(256), torch.float32)
    kept: list[torch.Tensor] = []
    given = torch.randn(20, 256, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda each: (kept.append(each), each)[1], lambda each: each):
        result = small(given)
    result.pow(2).sum().backward()
    wanted = 2 * result.detach() @ small.wide(torch.float32)
    torch.testing.assert_close(given.grad, wanted)
    assert sum(each.nbytes for each in kept) <= 20 * 256 * 4 + result.nbytes


def test_a_few_rows_take_the_kernel_and_give_the_same() -> None:
    small = Linear8bit(linear(256), torch.float32)
    rows = torch.randn(2, 256)
    found = small.few(rows)
    assert found is not None, "PyTorch's kernel for int8 works on this CPU"
    torch.testing.assert_close(found, rows @ small.wide(torch.float32).T, rtol=2e-2, atol=2e-2)


def test_rows_that_the_kernel_would_read_beyond_their_end_do_not_take_it() -> None:
    small, rows = Linear8bit(linear(200), torch.float32), torch.randn(1, 200)
    assert small.few(rows) is None
    torch.testing.assert_close(small(rows), rows @ small.wide(torch.float32).T + small.bias)


def test_a_kernel_that_is_not_there_or_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "_on_cpu", lambda rows, *_: rows.new_zeros(1, 32))
    device = torch.device("cpu")
    assert quantization._eight_kernel.__wrapped__(device, torch.float32) is None

    def missing(*_: Any) -> None:
        raise AttributeError("_weight_int8pack_mm")

    monkeypatch.setattr(quantization, "_on_cpu", missing)
    assert quantization._eight_kernel.__wrapped__(device, torch.float32) is None


@pytest.mark.slow  # it compiles
def test_the_kernel_of_a_card_computes_the_product() -> None:
    small, rows = Linear8bit(linear(256), torch.float32), torch.randn(1, 256)
    found = torch.compile(quantization._fused, dynamic=True)(rows, small.weight, small.scale)
    torch.testing.assert_close(found, rows @ small.wide(torch.float32).T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("bits", "error"), [(8, 1e-3), (4, 0.1)])
@pytest.mark.usefixtures("no_library")
def test_small_weights_answer_much_the_same(bits: int, error: float) -> None:
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        small, plain = (load_model(MODEL, dtype=torch.float32, device="cpu", bits=each) for each in (bits, 16))
        logits = [each(input_ids=ids).logits.flatten() for each in (small, plain)]
    assert 0 < 1 - float(torch.nn.functional.cosine_similarity(*logits, dim=0)) < error
    kinds = {type(each) for each in small.model.layers.modules() if isinstance(each, nn.Linear)}
    assert kinds == {Linear8bit if bits == 8 else Linear4bit}
    assert not isinstance(small.lm_head, QuantizedLinear)


def test_bitsandbytes_is_taken_for_4_bits_where_it_loads() -> None:
    library = pytest.importorskip("bitsandbytes")
    small = load_model(MODEL, dtype=torch.float32, device="cpu", bits=4)
    assert isinstance(small.model.layers[0].mlp.down_proj, library.nn.Linear4bit)


@pytest.mark.parametrize(
    ("method", "bits"), [("ptuning_v2", "8"), ("lora", "4"), slow("ptuning_v2", "4"), slow("lora", "8")]
)
@pytest.mark.usefixtures("no_library")
def test_one_can_train_through_small_weights(bits: str, method: str, tmp_path: Path) -> None:
    from glmstudio.train.methods import METHODS

    write_model(tmp_path / "model", Shape(96, 64, 128, 2, 4, 2, 16))
    rate = 0.1 if method == "ptuning_v2" else 0.01
    settings = Settings(
        method=method, base_bits=bits, prefix_length=8, prefix_std=0.02, steps=12, accumulation=2, learning_rate=rate,
        save_every=1000, prefix_dropout=0.0, lora_dropout=0.0, lora_targets="all",
    )  # fmt: skip
    glm = load_model(tmp_path / "model", dtype=torch.float32, device="cpu", bits=int(bits))
    METHODS[method].attach(glm, settings, None)
    trainer = trainer_for(glm.train(), settings, conversations(96, 2), tmp_path)
    before = {name: each.clone() for name, each in glm.named_parameters() if not each.requires_grad}
    trainer.fit()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.05
    after = dict(glm.named_parameters())
    assert all(torch.equal(after[name], each) for name, each in before.items())
