"""Prompts that several conversations begin with: computed once, learned from as if each had its own."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glmstudio.config.settings import Settings
from glmstudio.data.protocol.prompt import IGNORED, Example
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.store import prepare
from glmstudio.glm.attention import PackedSequences
from glmstudio.paths import DEMO
from glmstudio.planning.plan import _largest as largest_of
from glmstudio.train.batches import Examples, LengthGroupedSampler, PackBatchSampler, PackedDataset, StepConfig, joined
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.packs import Packer
from glmstudio.train.shared_prefix import Prompts, prompts_of
from tests.marks import slow
from tests.published import Shape, write_model
from tests.trainer_helpers import Listed, loss_and_gradients, prepared, trainer_for

FAMILY = np.array([0, 1, 0, -3, 1, 0, 2, 0, 1, -9, 0, 2])
SHARED = np.array([18, 25, 18, 0, 25, 18, 30, 18, 25, 0, 18, 30])
PROMPTS = Prompts(FAMILY, SHARED, 4)


def conversations(vocabulary: int = 60) -> list[Example]:
    draw = random.Random(5)
    prompts = {family: [draw.randrange(1, vocabulary) for _ in range(40)] for family in range(3)}
    made = []
    for family, shared in zip(FAMILY.tolist(), SHARED.tolist(), strict=True):
        own = [draw.randrange(1, vocabulary) for _ in range(draw.randrange(5, 30))]
        ids = prompts.get(family, [])[:shared] + own
        made.append(Example(ids, [IGNORED] * (shared + 2) + ids[shared + 2 :]))
    return made


EXAMPLES = conversations()
LENGTHS = [len(each.input_ids) for each in EXAMPLES]


def sampler_of(limit: int, world: int = 1, rank: int = 0, prompts: Prompts | None = PROMPTS) -> PackBatchSampler:
    examples = Listed(EXAMPLES, prompts)
    order = LengthGroupedSampler(LENGTHS, 1, 1, PROMPTS)
    return PackBatchSampler(
        examples, order, StepConfig(1, 6, Packer(limit, prompts=prompts)), DistributedContext(rank, world)
    )


def test_a_pack_with_a_prompt_in_numbers() -> None:
    rows = [
        {"input_ids": torch.tensor([1, 2, 3, 7, 8]), "labels": torch.tensor([IGNORED] * 4 + [8]), "weight": 0.5},
        {"input_ids": torch.tensor([4, 5]), "labels": torch.tensor([IGNORED, 5]), "weight": 0.25},
        {"input_ids": torch.tensor([1, 2, 3, 9, 6, 5]), "labels": torch.tensor([IGNORED] * 4 + [6, 5]), "weight": 0.1},
    ]
    pack = joined(rows, [(0, 3), (1, 0), (0, 3)])

    assert pack["input_ids"].tolist() == [[1, 2, 3, 7, 8, 4, 5, 9, 6, 5]]
    assert (pack["lengths"], pack["parent"]) == ([3, 2, 2, 3], [None, 0, None, 0])
    assert (pack["label_positions"].tolist(), pack["labels"].tolist()) == ([3, 5, 7, 8], [8, 5, 6, 5])
    assert (pack["loss_weights"], pack["label_counts"], pack["tokens"]) == ([0.5, 0.25, 0.1], [1, 1, 2], 13)
    documents = PackedSequences(pack["lengths"], torch.device("cpu"), pack["parent"])
    assert documents.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 3, 4, 5]]
    assert documents.cu_seqlens_q.tolist() == [0, 3, 5, 7, 10]
    assert documents.cu_seqlens_k(4).tolist() == [0, 7, 16, 22, 32]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("limit", [1, 60, 100, 1000])
def test_every_conversation_comes_once_with_its_weight(limit: int, world: int) -> None:
    shares = [list(sampler_of(limit, world, rank)) for rank in range(world)]
    for step in zip(*shares, strict=True):
        assert len({len(packs) for packs in step}) == 1, "nobody waits in vain"
    weights: Counter[int] = Counter()
    for index, weight in (each for share in shares for packs in share for pack in packs for each in pack):
        weights[index] += weight / world
    learned = {index: len(each.input_ids) - SHARED[index] - 2 for index, each in enumerate(EXAMPLES)}
    assert {index: weight * learned[index] for index, weight in weights.items()} == pytest.approx(
        dict.fromkeys(range(len(EXAMPLES)), 1 / 6)
    )


@pytest.mark.parametrize(("limit", "computed"), [(60, 418), (100, 350), (1000, 350)])
def test_packs_hold_the_limit_and_compute_less(limit: int, computed: int) -> None:
    shared, alone = (
        [[sum(PackedDataset(Listed(EXAMPLES), Packer(limit, prompts=prompts))[pack]["lengths"]) for pack in packs] for packs in sampler]
        for prompts in (PROMPTS, None)
        for sampler in [sampler_of(limit, prompts=prompts)]
    )  # fmt: skip
    longest = max(LENGTHS)
    assert all(tokens <= max(limit, longest) for packs in shared for tokens in packs)
    assert sum(map(sum, alone)) == sum(LENGTHS) == 454
    assert sum(map(sum, shared)) == computed


def test_processes_get_work_before_prompts_are_shared() -> None:
    lengths = [100] * 16
    prompts = Prompts(np.arange(16) // 4, np.full(16, 60), 4)
    for world, documents in ((1, 4), (4, 4), (8, 2), (16, 1)):
        made = Packer(1000, prompts=prompts).packs([[at] for at in range(16)], lengths.__getitem__, world)
        assert len(made) == world
        families = [Counter(int(prompts.family[index]) for index in pack) for pack in made]
        assert {count for each in families for count in each.values()} == {documents}


METHODS: list[dict[str, Any]] = [
    {"method": "ptuning_v2", "prefix_length": 5, "prefix_dropout": 0.0},
    {"method": "lora", "lora_targets": "all", "lora_dropout": 0.0},
    {"method": "full"},
]


@pytest.mark.parametrize(
    ("given", "checkpointing"),
    [
        (METHODS[0], "off"), (METHODS[2], "on"), slow(METHODS[0], "on"), slow(METHODS[1], "off"), slow(METHODS[1], "on"),
        slow(METHODS[2], "off"),
    ],
)  # fmt: skip
def test_loss_and_gradients_are_those_of_prompts_of_their_own(
    given: dict[str, Any], checkpointing: str, tmp_path: Path
) -> None:
    write_model(tmp_path, Shape(64, 32, 80, 3, 4, 2, 8))
    settings = Settings(gradient_checkpointing=checkpointing, checkpoint_layers=2, **given)
    seen = []
    for limit, prompts in ((1, None), (60, PROMPTS), (1000, PROMPTS)):
        packed = PackedDataset(Listed(EXAMPLES), Packer(limit, prompts=prompts))
        packs = [packed[pack] for step in sampler_of(limit, prompts=prompts) for pack in step]
        seen.append(loss_and_gradients(tmp_path, settings, packs))
    for loss, gradients in seen[1:]:
        torch.testing.assert_close(loss, seen[0][0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradients, seen[0][1], rtol=2e-4, atol=2e-6)


def test_a_training_goes_the_same_way(tmp_path: Path) -> None:
    write_model(tmp_path / "model", Shape(64, 32, 80, 2, 4, 2, 8))
    settings = Settings(method="full", learning_rate=1e-3, accumulation=4, steps=9, pack_tokens=200, save_every=100)
    losses = []
    for shared in (True, False):
        folder = tmp_path / str(shared)
        folder.mkdir()
        trainer = trainer_for(prepared(tmp_path / "model", settings), settings, EXAMPLES, folder, PROMPTS)
        if not shared:
            trainer.steps = dataclasses.replace(
                trainer.steps, packer=dataclasses.replace(trainer.steps.packer, prompts=None)
            )
        trainer.fit()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines])
        assert sum(line["tokens"] for line in lines) == 3 * sum(LENGTHS), "tokens of conversations, computed or not"
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("most", [2, 3, 100])
def test_conversations_on_one_prompt_come_in_groups_in_any_order(most: int) -> None:
    order = LengthGroupedSampler(LENGTHS, 1, 7, Prompts(FAMILY, SHARED, most))
    epochs = []
    for epoch in range(3):
        order.epoch = epoch
        epochs.append(list(order))
        assert list(order) == epochs[-1]
        assert sorted(epochs[-1]) == list(range(len(LENGTHS)))
        runs: list[list[int]] = []
        for index in epochs[-1]:
            if runs and runs[-1][-1] == FAMILY[index]:
                runs[-1].append(int(FAMILY[index]))
            else:
                runs.append([int(FAMILY[index])])
        for family, count in Counter(FAMILY.tolist()).items():
            mine = [len(run) for run in runs if run[0] == family]
            assert sum(mine) == count
            assert len(mine) <= -(-count // most), "two groups may meet, but none is torn"
    assert len({tuple(each) for each in epochs}) == 3
    longest = LENGTHS.index(max(LENGTHS))
    assert longest in epochs[0][: min(most, Counter(FAMILY.tolist())[FAMILY[longest]])]
    assert list(LengthGroupedSampler(LENGTHS, 1, 8, Prompts(FAMILY, SHARED, most))) != epochs[0]


def test_no_more_share_a_prompt_than_is_said() -> None:
    prompts = Prompts(np.array([5, 5, 7, 5, 5, 5, -6]), np.array([20, 20, 9, 20, 20, 20, 0]), 2)
    assert prompts.of(range(7)) == [(0, 20), (0, 20), (3, 0), (1, 20), (1, 20), (2, 0), (4, 0)]


@pytest.mark.parametrize("most", [2, 3, 16])
def test_a_plan_holds_the_packs_of_a_data_set_with_one_prompt(most: int, tmp_path: Path) -> None:
    tool, draw = record("weather", "?"), random.Random(2)
    said = [f"{number} " + "word " * draw.randrange(2, 40) for number in range(60)]
    source = tmp_path / "data.jsonl"
    turns = [[{"role": "user", "content": "What?"}, {"role": "assistant", "content": each}] for each in said]
    source.write_text("".join(json.dumps(tool | {"conversations": each}) + "\n" for each in turns))
    store = prepare(source, DEMO / "model")
    chosen = store.select("stop", 500)
    settings = Settings(shared_prompts=most, pack_tokens=400)
    planned = largest_of(settings, store, chosen)
    prompts = prompts_of(store, chosen.rows, chosen.ends, Tokenizer(DEMO / "model").special["<|user|>"], most)
    examples = Examples(store, chosen.rows, chosen.ends, prompts)
    packer = Packer(400, prompts=prompts)
    sampler = PackBatchSampler(
        examples, LengthGroupedSampler(examples.lengths, 1, 1, prompts), StepConfig(1, 16, packer), DistributedContext()
    )
    packs = [PackedDataset(examples, packer)[pack] for packs in sampler for pack in packs]
    assert len(packs) < len(said) / 2
    for pack in packs:
        again = sum(pack["lengths"][earlier] for earlier in pack["parent"] if earlier is not None)
        found = [sum(pack["lengths"]), sum(pack["label_counts"]), len(pack["lengths"]), again]
        bounds = [planned.tokens, planned.learned, planned.sequences, planned.common]
        assert all(one <= other for one, other in zip(found, bounds, strict=True)), (found, bounds)


def record(tools: str, question: str) -> dict[str, Any]:
    tool = {"name": tools, "description": "Tells it. " * 5, "parameters": {"type": "object", "properties": {}}}
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "Yes, it is so."}]
    return {"tools": [tool], "conversations": turns} if tools else {"conversations": turns}


def test_prompts_are_found_in_a_real_data_set(tmp_path: Path) -> None:
    asked = [("weather", "One?"), ("time", "Two?"), ("weather", "Three?"), ("", "Four?"), ("", "Five?")]
    source = tmp_path / "data.jsonl"
    source.write_text("".join(json.dumps(record(*each)) + "\n" for each in asked))
    model = DEMO / "model"
    store = prepare(source, model)
    chosen = store.select("stop", 500)
    user = Tokenizer(model).special["<|user|>"]
    found = prompts_of(store, chosen.rows, chosen.ends, user, 4)

    assert found.family.tolist() == [0, 1, 0, -4, -5], "what is shorter than 16 tokens is not shared"
    assert found.length[0] == found.length[2] > 16
    assert found.length[3:].tolist() == [0, 0]
    first, third = (store.ids(int(chosen.rows[at])) for at in (0, 2))
    assert first[: found.length[0]].tolist() == third[: found.length[0]].tolist()
    assert first[found.length[0]] == third[found.length[0]] == user
