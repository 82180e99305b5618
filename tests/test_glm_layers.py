"""The project's own layers against the modules of transformers and the loss of PyTorch: numbers and gradients."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import GlmConfig, GlmForCausalLM
from transformers.models.glm.modeling_glm import GlmMLP, GlmRMSNorm

from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.glm import layers, lm_head
from glmstudio.glm.layers import Attention, Norm, SwiGLU, compile_layers, use_own_layers
from glmstudio.glm.lm_head import LMHead
from glmstudio.glm.weights.base_weights import load_base
from glmstudio.train.methods import compile_kernels
from tests.published import Shape, write_model

CONFIG = GlmConfig(
    vocab_size=64, hidden_size=32, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, attention_bias=True, pad_token_id=0, eos_token_id=2, bos_token_id=1,
    max_position_embeddings=128,
)  # fmt: skip


def both(module: nn.Module, given: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Result and gradients of transformers' module and of ours with its numbers."""
    ours = copy.deepcopy(module)
    ours.__class__ = {GlmRMSNorm: Norm, GlmMLP: SwiGLU}[type(module)]
    seen = []
    for each in (module, ours):
        states = given.clone().requires_grad_()
        result = each(states)
        gradients = torch.autograd.grad(result.float().pow(3).sum(), [states, *each.parameters()])
        seen.append((result, *gradients))
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["norm", "swiglu"])
def test_a_layer_is_that_of_transformers(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    module = (GlmRMSNorm(32) if kind == "norm" else GlmMLP(CONFIG)).to(dtype)
    nn.init.normal_(next(module.parameters()), 1.0 if kind == "norm" else 0.0, 0.2)
    theirs, ours = both(module, torch.randn(2, 7, 32, dtype=dtype))
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype is torch.float32 else {"rtol": 3e-2, "atol": 3e-2}
    for mine, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, wanted, **near)


def test_a_whole_model_is_that_of_transformers() -> None:
    torch.manual_seed(1)
    theirs = GlmForCausalLM(CONFIG)
    ours = copy.deepcopy(theirs)
    use_own_layers(ours)
    assert isinstance(ours.model.layers[0].self_attn, Attention)
    assert isinstance(ours.lm_head, LMHead)
    ids = torch.randint(1, 64, (2, 20))
    results = []
    for model in (theirs, ours):
        logits = model(input_ids=ids).logits
        results.append((logits, *torch.autograd.grad(logits.pow(2).sum(), list(model.parameters()))))
    for mine, wanted in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5)


def test_every_loaded_model_has_them(tmp_path: Path) -> None:
    write_model(tmp_path, Shape(64, 32, 80, 2, 4, 2, 8))
    model = load_base(tmp_path, dtype=torch.float32, device=torch.device("cpu"))
    plain = [type(each).__name__ for each in model.modules() if type(each).__module__.startswith("transformers.models")]
    assert plain == ["GlmForCausalLM", "GlmModel", "GlmDecoderLayer", "GlmDecoderLayer"]


@pytest.mark.slow  # 15 s: it compiles
def test_compiled_layers_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_KERNELS", dict(layers._KERNELS))
    compile_layers(torch.device("cpu"), torch.float32)
    test_a_whole_model_is_that_of_transformers()


def test_a_machine_without_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("Failed to find C++ compiler. Please specify via CXX.\nmore")

    monkeypatch.setattr("glmstudio.train.methods.compile_layers", broken)
    with pytest.raises(StudioError) as raised:
        compile_kernels(GlmForCausalLM(CONFIG), Settings(compile=True))
    assert raised.value.what() == (
        "PyTorch's compiler does not work on this machine: Failed to find C++ compiler. Please specify via CXX."
    )


def losses(learns: str, dtype: torch.dtype, weights: torch.Tensor) -> list[tuple[Any, ...]]:
    """Loss and gradients by PyTorch's own cross entropy in float32, and by the head."""
    torch.manual_seed(1)
    layer = LMHead(16, 50, bias=False).to(dtype)
    layer.weight.requires_grad_(learns != "hidden")
    hidden = torch.randn(11, 16).to(dtype).requires_grad_(learns != "weight")
    wanted = torch.randint(0, 50, (11,))
    given = [each for each in (hidden, layer.weight) if each.requires_grad]
    plain = (
        functional.cross_entropy((hidden.float() @ layer.weight.float().T), wanted, reduction="none") * weights
    ).sum()
    own = layer(hidden, wanted, weights.tolist(), [1] * len(weights))
    return [(loss, *torch.autograd.grad(loss * 3, given)) for loss in (plain, own)]


@pytest.mark.parametrize("chunk", [50, 200, 1 << 25])
@pytest.mark.parametrize("learns", ["hidden", "weight", "both"])
def test_the_loss_is_the_cross_entropy_whatever_its_chunks(
    learns: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_head, "LOSS_CHUNK", chunk)
    wanted, found = losses(learns, torch.float32, torch.rand(11))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_small_weights_do_not_vanish_in_16_bits() -> None:
    """A mean over 16 conversations of hundreds of tokens gives each some 1e-4, and their gradients less than float16 has."""
    wanted, found = losses("weight", torch.float16, torch.full((11,), 1e-4))
    scale = wanted[1].float().abs().max()
    assert (found[1].float() - wanted[1].float()).abs().max() < 0.02 * scale
    zero = losses("both", torch.float32, torch.zeros(11))[1]
    assert [float(each.abs().sum()) for each in zero] == [0.0, 0.0, 0.0]


def test_a_pack_without_weight_learns_nothing_in_16_bits() -> None:
    """It comes where packs do not come out even; 1e-30 would be 0 there."""
    layer, hidden = LMHead(16, 50, bias=False).half(), torch.randn(5, 16).half().requires_grad_()
    layer(hidden, torch.randint(0, 50, (5,)), [0.0, 0.0], [2, 3]).backward()
    assert layer.weight.grad is not None
    assert (float(hidden.grad.abs().sum()), float(layer.weight.grad.abs().sum())) == (0.0, 0.0)


def test_the_loss_computes_in_the_type_of_autocast() -> None:
    torch.manual_seed(1)
    layer = LMHead(16, 50, bias=False)
    hidden, wanted, weights = torch.randn(11, 16, requires_grad=True), torch.randint(0, 50, (11,)), torch.rand(11)
    plain = layer(hidden, wanted, weights.tolist(), [1] * 11)
    with torch.autocast("cpu", torch.bfloat16):
        small = layer(hidden, wanted, weights.tolist(), [1] * 11)
    assert small.dtype == torch.float32
    assert 0 < abs(float(small - plain)) < 0.05
    small.backward()
    assert layer.weight.grad is not None
    assert (hidden.grad.dtype, layer.weight.grad.dtype) == (torch.float32, torch.float32)


def test_the_loss_never_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_head, "LOSS_CHUNK", 3 * 50)
    seen: list[int] = []
    chunk = lm_head._chunk
    monkeypatch.setattr(
        lm_head, "_chunk", lambda states, *rest, **more: (seen.append(len(states)), chunk(states, *rest, **more))[1]
    )
    losses("both", torch.float32, torch.rand(11))
    assert seen == [3, 3, 3, 2]


def test_a_validation_makes_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    chunk = lm_head._chunk
    monkeypatch.setattr(
        lm_head, "_chunk", lambda *given, learns: (asked.append(learns), chunk(*given, learns=learns))[1]
    )
    layer, hidden = LMHead(16, 50, bias=False), torch.randn(5, 16, requires_grad=True)
    wanted = torch.randint(0, 50, (5,))
    with torch.no_grad():
        one = layer(hidden, wanted, [0.5, 0.25], [2, 3])
    other = layer(hidden, wanted, [0.5, 0.25], [2, 3])
    assert asked == [False, True]
    torch.testing.assert_close(one, other.detach())


def test_no_learned_row_is_no_loss() -> None:
    layer = LMHead(16, 50, bias=False)
    hidden = torch.randn(0, 16, requires_grad=True)
    loss = layer(hidden, torch.zeros(0, dtype=torch.long), [0.0], [0])
    loss.backward()
    assert float(loss) == 0.0
