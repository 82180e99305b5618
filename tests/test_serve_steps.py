"""A token at a time: in fixed places as in growing ones, and caches that are written in place."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import GlmForCausalLM

from glmstudio.glm.kv_cache import GrowingCache
from glmstudio.glm.load import load_model
from glmstudio.serve import decoders
from glmstudio.serve.decoders import EagerDecoder, StaticCacheDecoder
from tests.adapters import BASE, lora, prefix
from tests.marks import slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GlmForCausalLM]:
    home = tmp_path_factory.mktemp("adapters")
    folders = {"base": None, "prefix": prefix(home / "soft", 1), "lora": lora(home / "low", 3)}
    return {name: load_model(BASE, folder, device="cpu") for name, folder in folders.items()}


def tokens(count: int, seed: int = 1) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(3, 1000) for _ in range(count)]


def said(made: EagerDecoder, model: GlmForCausalLM, answer: list[int]) -> tuple[torch.Tensor, GrowingCache]:
    """The logits after each token of an answer to a prompt that is read in two pieces."""
    cache = GrowingCache(model.config)
    with torch.inference_mode():
        made.begin("", cache)
        made.read(tokens(10))
        logits = [made.read(tokens(5, 2))]
        logits += [made.step(token) for token in answer]
        made.end()
    return torch.stack(logits), cache


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("base", 1), ("prefix", 20), ("lora", 3),
        *(slow(name, count) for name, count in (("base", 3), ("base", 20), ("prefix", 1), ("prefix", 3), ("lora", 1), ("lora", 20))),
    ],
)  # fmt: skip
def test_static_buffers_compute_what_growing_ones_do(
    name: str, count: int, models: dict[str, GlmForCausalLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over three sizes of places: 16, 32 and 64."""
    monkeypatch.setattr(decoders, "_SMALLEST", 16)
    model, answer = models[name], tokens(count, 3)
    plain, kept = said(EagerDecoder(model), model, answer)
    fixed = StaticCacheDecoder(model, graphs=False)
    for _ in range(2):  # the second time in places that hold another conversation's numbers
        found, cache = said(fixed, model, answer)
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
        assert found.argmax(-1).tolist() == plain.argmax(-1).tolist()
        assert cache.get_seq_length() == kept.get_seq_length() == 15 + count
        for mine, wanted in zip(cache.layers, kept.layers, strict=True):
            torch.testing.assert_close(mine.keys, wanted.keys, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(mine.values, wanted.values, rtol=1e-5, atol=1e-5)


def test_the_logits_of_a_whole_pass_are_those_of_its_pieces(models: dict[str, GlmForCausalLM]) -> None:
    for model in models.values():
        answer = tokens(5, 3)
        found, _ = said(EagerDecoder(model), model, answer)
        with torch.inference_mode():
            whole = model(input_ids=torch.tensor([[*tokens(10), *tokens(5, 2), *answer]])).logits[0, 14:]
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)


def test_a_gpu_that_takes_no_graphs_answers_without(
    models: dict[str, GlmForCausalLM], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(decoders, "_CudaGraph", broken)
    model, made = models["base"], StaticCacheDecoder(models["base"], graphs=True)
    found, _ = said(made, model, tokens(5, 3))
    torch.testing.assert_close(found, said(EagerDecoder(model), model, tokens(5, 3))[0], rtol=1e-5, atol=1e-5)
    assert [record.getMessage() for record in caplog.records] == [
        "This GPU does not take CUDA graphs, so answers are made without: operation not permitted when stream is capturing"
    ]


def test_numbers_that_are_none_spoil_no_later_answer(models: dict[str, GlmForCausalLM]) -> None:
    model = models["prefix"]
    made, wanted = StaticCacheDecoder(model, graphs=False), said(EagerDecoder(model), model, tokens(3, 3))[0]
    said(made, model, tokens(2))
    with torch.inference_mode():
        for layer in made._buffers[512].cache.layers:
            layer.values.fill_(torch.nan)
            layer.keys.fill_(torch.inf)
    torch.testing.assert_close(said(made, model, tokens(3, 3))[0], wanted, rtol=1e-5, atol=1e-5)


def test_too_little_memory_for_a_graph_is_not_a_gpu_without_graphs(
    models: dict[str, GlmForCausalLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(decoders, "_CudaGraph", full)
    made = StaticCacheDecoder(models["base"], graphs=True)
    with pytest.raises(torch.OutOfMemoryError):
        said(made, models["base"], tokens(2))
    assert made._captures
    assert made._cache is not None
    made.forget()
    assert made._cache is None


def test_what_is_kept_between_answers_can_be_given_back(models: dict[str, GlmForCausalLM]) -> None:
    made = StaticCacheDecoder(models["base"], graphs=False)
    said(made, models["base"], tokens(2))
    assert made._buffers
    made.clear()
    assert not made._buffers


def test_a_cache_grows_in_place_and_is_cut_and_copied(models: dict[str, GlmForCausalLM]) -> None:
    config = models["base"].config
    cache, seen = GrowingCache(config), torch.randn(1, 2, 600, 8)
    places = set()
    for at in range(0, 600, 7):
        piece = seen[:, :, at : at + 7]
        for index in range(config.num_hidden_layers):
            keys, values = cache.update(piece, piece + 1, index)
        assert torch.equal(keys, seen[:, :, : at + 7])
        assert torch.equal(values, seen[:, :, : at + 7] + 1)
        places.add(cache.layers[0].keys.data_ptr())
    assert len(places) == 3, "places of 256, 512 and 1,024 tokens"
    other = cache.copied(config, 100)
    cache.cut(300)
    assert (cache.get_seq_length(), other.get_seq_length()) == (300, 100)
    new = torch.zeros(1, 2, 5, 8)
    for index in range(config.num_hidden_layers):
        keys, _ = cache.update(new, new, index)
        mine, _ = other.update(new + 2, new, index)
    assert torch.equal(keys, torch.cat([seen[:, :, :300], new], 2))
    assert torch.equal(mine, torch.cat([seen[:, :, :100], new + 2], 2))
