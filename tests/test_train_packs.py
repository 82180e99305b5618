"""Packs: the same steps for any packing, any limit and any number of processes; and what a pack computes."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from glmstudio.config.settings import Settings, pack_limit
from glmstudio.data.protocol.prompt import IGNORED, Example
from glmstudio.glm import attention
from glmstudio.glm.attention import PackedSequences
from glmstudio.train.batches import LengthGroupedSampler, PackBatchSampler, PackedDataset, StepConfig, joined, padded
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.model_with_loss import ModelWithLoss
from glmstudio.train.packs import Packer, shard_packs
from tests.marks import slow
from tests.published import Shape, write_model
from tests.trainer_helpers import Listed, loss_and_gradients, prepared

LENGTHS = [5, 9, 20, 7, 14, 8, 3, 16, 11, 10, 12]


def conversations(lengths: list[int] = LENGTHS, vocabulary: int = 60) -> list[Example]:
    draw = random.Random(3)
    made = []
    for length in lengths:
        ids = [draw.randrange(1, vocabulary) for _ in range(length)]
        made.append(Example(ids, [IGNORED] * 2 + ids[2:]))
    return made


@pytest.mark.parametrize("limit", [None, 1, 20, 33, 1000])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize(("batch", "accumulation"), [(1, 1), (1, 4), (2, 3), (2, 8)])
def test_a_step_learns_the_same_however_it_is_laid_out(
    batch: int, accumulation: int, world: int, limit: int | None
) -> None:
    examples, order = Listed(conversations()), LengthGroupedSampler(LENGTHS, batch, seed=1)
    indices = list(order)
    batches = [indices[at : at + batch] for at in range(0, len(indices), batch)]
    wanted = [batches[at : at + accumulation] for at in range(0, len(batches), accumulation)]
    steps = StepConfig(batch, accumulation, Packer(limit))
    samplers = [PackBatchSampler(examples, order, steps, DistributedContext(rank, world)) for rank in range(world)]
    got = [list(sampler) for sampler in samplers]

    assert {len(each) for each in got} == {len(sampler) for sampler in samplers} == {len(wanted)}
    for step, *shares in zip(wanted, *got, strict=True):
        assert len({len(packs) for packs in shares}) == 1, "nobody waits in vain"
        weights: Counter[int] = Counter()
        for index, weight in (each for packs in shares for pack in packs for each in pack):
            weights[index] += weight / world  # of gradients, the mean over the processes is taken
        for one in step:
            learned = sum(examples.scored(index) for index in one)
            assert [weights.pop(index) for index in one] == pytest.approx([1 / (len(step) * learned)] * len(one))
        assert not weights


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("limit", [1, 20, 25, 40])
def test_packs_hold_the_limit_and_every_conversation_once(limit: int, full: bool) -> None:
    made = Packer(limit).packs([[index] for index in range(len(LENGTHS))], LENGTHS.__getitem__, full=full)

    assert sorted(index for pack in made for index in pack) == list(range(len(LENGTHS)))
    assert all(made), "no pack is empty"
    for pack in made:
        assert len(pack) == 1 or sum(LENGTHS[index] for index in pack) <= limit


def test_packs_are_even_but_in_the_first_step_one_is_as_full_as_it_can_be() -> None:
    draw = random.Random(1)
    lengths = [draw.randrange(400, 1700) for _ in range(16)]
    packer = Packer(8192)
    even, full = (
        [sum(lengths[at] for at in pack) for pack in packer.packs([list(range(16))], lengths.__getitem__, full=first)]
        for first in (False, True)
    )
    assert len(even) == len(full) == -(-sum(lengths) // 8192)
    assert max(even) - min(even) < 700
    assert max(full) > 8192 - min(lengths)


@pytest.mark.parametrize(("world", "count"), [(1, 1), (2, 2), (3, 3), (4, 4), (7, 5)])
def test_all_processes_have_as_many_packs_where_there_are_conversations_for_it(world: int, count: int) -> None:
    lengths = [10, 20, 30, 40, 50]
    made = Packer(1000).packs([[0, 1, 2, 3, 4]], lengths.__getitem__, world)
    assert len(made) == count
    assert sorted(index for pack in made for index in pack) == [0, 1, 2, 3, 4]


def test_long_conversations_weigh_more_than_their_tokens() -> None:
    packer = Packer(3000, bend=1000)
    made = packer.packs([[0], [1], [2], [3]], [2000, 1000, 1000, 1000].__getitem__, full=False)
    assert sorted(map(sorted, made)) == [[0], [1, 2, 3]]


def test_the_heaviest_pack_does_not_always_go_to_the_first_process() -> None:
    packs = [[(index, 1.0)] for index in range(6)]
    assert [shard_packs(packs, rank, 2) for rank in (0, 1)] == [
        [[(0, 1.0)], [(3, 1.0)], [(4, 1.0)]],
        [[(1, 1.0)], [(2, 1.0)], [(5, 1.0)]],
    ]
    assert [shard_packs(packs[:1], rank, 2) for rank in (0, 1)] == [[[(0, 1.0)]], [[(0, 0.0)]]]


def test_a_pack_and_a_batch_in_numbers() -> None:
    rows = [
        {"input_ids": torch.tensor([7, 8, 9]), "labels": torch.tensor([7, IGNORED, 9]), "weight": 0.5},
        {"input_ids": torch.tensor([4, 5]), "labels": torch.tensor([IGNORED, 5]), "weight": 0.25},
    ]
    pack, batch = joined(rows), padded(rows)

    assert (pack["input_ids"].tolist(), pack["lengths"], pack["tokens"]) == ([[7, 8, 9, 4, 5]], [3, 2], 5)
    assert (batch["input_ids"].tolist(), batch["lengths"], batch["tokens"]) == ([[7, 8, 9], [4, 5, 0]], None, 5)
    assert (pack["label_positions"].tolist(), batch["label_positions"].tolist()) == ([1, 3], [1, 3])
    for each in (pack, batch):
        assert each["labels"].tolist() == [9, 5]
        assert (each["loss_weights"], each["label_counts"]) == ([0.5, 0.25], [1, 1])
    assert joined([row | {"weight": 0.0} for row in rows])["tokens"] == 0
    assert PackedSequences([3, 2], torch.device("cpu")).positions.tolist() == [[0, 1, 2, 0, 1]]
    assert PackedSequences([3, 2], torch.device("cpu")).cu_seqlens_q.tolist() == [0, 3, 5]
    assert PackedSequences([3, 2], torch.device("cpu")).cu_seqlens_k(4).tolist() == [0, 7, 13]


def test_the_limit_is_never_less_than_the_longest_conversation() -> None:
    assert pack_limit(Settings(), 100) == 4096
    assert pack_limit(Settings(), 5000) == 5000
    assert pack_limit(Settings(pack_tokens=1), 100) == 100


METHODS: list[dict[str, Any]] = [
    {"method": "ptuning_v2", "prefix_length": 5, "prefix_dropout": 0.0},
    {"method": "ptuning_v2", "prefix_length": 40, "prefix_dropout": 0.0, "prefix_projection": True},
    {"method": "lora", "lora_targets": "all", "lora_dropout": 0.0},
    {"method": "full"},
]


@pytest.mark.parametrize(
    ("given", "checkpointing"),
    [
        (METHODS[0], "off"), (METHODS[1], "on"), (METHODS[2], "off"), (METHODS[3], "on"),
        slow(METHODS[0], "on"), slow(METHODS[1], "off"), slow(METHODS[2], "on"), slow(METHODS[3], "off"),
    ],
)  # fmt: skip
def test_packs_batches_and_single_conversations_give_the_same_loss_and_gradients(
    given: dict[str, Any], checkpointing: str, tmp_path: Path
) -> None:
    write_model(tmp_path, Shape(64, 32, 80, 3, 4, 2, 8))
    examples = Listed(conversations())
    settings = Settings(gradient_checkpointing=checkpointing, checkpoint_layers=2, **given)
    seen = []
    for limit in (1, 40, 1000, None):
        packer = Packer(limit)
        step = next(
            iter(
                PackBatchSampler(
                    examples, LengthGroupedSampler(LENGTHS, 2, 1), StepConfig(2, 3, packer), DistributedContext()
                )
            )
        )
        seen.append(loss_and_gradients(tmp_path, settings, map(PackedDataset(examples, packer).__getitem__, step)))
    for loss, gradients in seen[1:]:
        torch.testing.assert_close(loss, seen[0][0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradients, seen[0][1], rtol=2e-4, atol=2e-6)


def test_a_document_does_not_see_the_others(tmp_path: Path) -> None:
    write_model(tmp_path, Shape(64, 32, 80, 2, 4, 2, 8))
    glm = prepared(tmp_path, Settings(prefix_length=5, prefix_dropout=0.0)).eval()
    ids = torch.arange(1, 31)[None]
    documents = PackedSequences([9, 11, 10], ids.device)

    def hidden(tokens: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            result = glm.model(input_ids=tokens, position_ids=documents.positions, documents=documents)
        return result.last_hidden_state[0]

    other = ids.clone()
    other[0, 9:20] = 60
    before, after = hidden(ids), hidden(other)
    assert torch.equal(before[:9], after[:9])
    assert torch.equal(before[20:], after[20:])
    assert not torch.allclose(before[9:20], after[9:20])
    with torch.no_grad():
        alone = glm.model(input_ids=ids[:, 9:20]).last_hidden_state[0]
    torch.testing.assert_close(before[9:20], alone)


def by_hand(query: Any, key: Any, value: Any, starts: Any, key_starts: Any, *_: int, **given: Any) -> torch.Tensor:
    """What PyTorch documents of its kernel for many lengths, which only a card has: causal at the lower right."""
    assert given.pop("window_size") == (-1, 0)
    results = []
    for at in range(len(starts) - 1):
        one = query[starts[at] : starts[at + 1]].transpose(0, 1)
        both = [each[key_starts[at] : key_starts[at + 1]].transpose(0, 1) for each in (key, value)]
        seen = torch.ones(one.shape[1], both[0].shape[1], dtype=torch.bool).tril(both[0].shape[1] - one.shape[1])
        results.append(functional.scaled_dot_product_attention(one, *both, seen, **given).transpose(0, 1))
    return torch.cat(results)


@pytest.mark.parametrize("after", [None, [None, 0, None, 0]])
@pytest.mark.parametrize("with_prefix", [True, False])
def test_the_kernel_for_many_lengths_is_given_what_it_wants(
    with_prefix: bool, after: list[int | None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "varlen_attn", by_hand)
    documents = PackedSequences([4, 6, 1, 3], torch.device("cpu"), after)
    query, key, value = torch.randn(1, 6, 14, 8), torch.randn(1, 2, 14, 8), torch.randn(1, 2, 14, 8)
    prefix = (torch.randn(4, 2, 5, 8), torch.randn(4, 2, 5, 8)) if with_prefix else None
    given = query, (key, value), prefix, documents, 0.3
    torch.testing.assert_close(attention._by_lengths(*given), attention._one_by_one(*given))


@pytest.mark.parametrize("layers", [0, 1])
def test_the_kernel_is_tried_in_the_middle_of_a_layer_that_is_computed_twice(
    layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "varlen_attn", by_hand)
    monkeypatch.setattr(attention, "_has_flash", lambda *_: True)
    write_model(tmp_path, Shape(64, 32, 80, 3, 4, 2, 8))
    examples, packer = Listed(conversations()), Packer(1000)
    told = PackedDataset(examples, packer)[[(index, 0.01) for index in range(4)]]
    told.pop("tokens")
    seen = []
    for checkpointing in ("off", "on"):
        attention._takes_lengths.cache_clear()
        settings = Settings(
            prefix_length=5, prefix_dropout=0.0, gradient_checkpointing=checkpointing, checkpoint_layers=layers
        )
        glm = prepared(tmp_path, settings)
        loss = ModelWithLoss(glm)(**told)["loss"]
        loss.backward()
        seen.append((loss.detach(), glm.prefix.embedding.weight.grad))
    assert attention._takes_lengths(torch.device("cpu"), torch.float32)
    attention._takes_lengths.cache_clear()
    torch.testing.assert_close(seen[1], seen[0])


def test_without_a_card_the_documents_are_computed_one_by_one() -> None:
    assert not attention._takes_lengths(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("length", "before", "prefix"), [(9, 0, 0), (9, 4, 0), (3, 12, 0), (9, 0, 5), (3, 12, 5), (1, 6, 5)]
)
def test_attention_is_what_a_mask_says(length: int, before: int, prefix: int) -> None:
    """Over whole prompts, pieces of them and single tokens, with a prefix and without."""
    layer = torch.nn.Module()
    layer.prefix = (torch.randn(2, 2, prefix, 8), torch.randn(2, 2, prefix, 8)) if prefix else None
    query, key, value = (
        torch.randn(2, 6, length, 8),
        torch.randn(2, 2, before + length, 8),
        torch.randn(2, 2, before + length, 8),
    )
    got, _ = attention.attention(layer, query, key, value, None, scaling=0.3)

    both = [each.repeat_interleave(3, dim=1) for each in (key, value)]
    if layer.prefix:
        both = [
            torch.cat([mine.repeat_interleave(3, dim=1), own], 2) for mine, own in zip(layer.prefix, both, strict=True)
        ]
    seen = torch.ones(length, prefix + before + length, dtype=torch.bool).tril(prefix + before)
    wanted = functional.scaled_dot_product_attention(query, *both, seen, scale=0.3).transpose(1, 2)
    torch.testing.assert_close(got, wanted)


def test_checkpointing_is_for_the_first_layers(tmp_path: Path) -> None:
    write_model(tmp_path, Shape(64, 32, 80, 3, 4, 2, 8))
    for count, wanted in ((0, [True, True, True]), (2, [True, True, False])):
        settings = Settings(gradient_checkpointing="on", checkpoint_layers=count)
        glm = prepared(tmp_path, dataclasses.replace(settings, prefix_length=4))
        assert [layer.gradient_checkpointing for layer in glm.model.layers] == wanted
