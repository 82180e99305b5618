"""How likely each token was, by the engine and by transformers alone: adapters, pieces, what was kept, the tokenizer's part."""

from __future__ import annotations

import queue
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GlmForCausalLM

from glmstudio.chat.sampling import Sampling
from glmstudio.data.protocol.tokenizer import TextStream, Tokenizer
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.glm.load import load_model
from glmstudio.serve import token_scores as slices
from glmstudio.serve.engine import Engine, GenerationJob
from glmstudio.serve.events import Event, JobFailed, JobFinished, NewToken, PrefixHit, PromptScores
from glmstudio.serve.token_scores import TokenScore, score_of
from tests.adapters import BASE, lora, prefix

NAMES = ("", "soft", "low")
NEAR = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("adapters")
    return {"soft": prefix(home / "soft", 1), "low": lora(home / "low", 3)}


@pytest.fixture(scope="module")
def engine(folders: dict[str, Path]) -> Iterator[Engine]:
    made = Engine(AdapterPool(load_model(BASE, device="cpu")), Tokenizer(BASE).stop_ids)
    for name, folder in folders.items():
        made.add(name, folder)
    yield made
    made.end()


def ids(count: int, seed: int = 1) -> list[int]:
    draw = random.Random(seed)
    return [1537, 1539, *(draw.randrange(3, 1500) for _ in range(count - 2))]


def told(engine: Engine, asked: list[int], adapter: str = "", most: int = 0, **more: Any) -> list[Any]:
    """All that the engine tells of a scored job; raises what it tells of."""
    heard: queue.Queue[Event] = queue.Queue()
    sampling = Sampling(temperature=0.0, max_tokens=most)
    engine.submit(GenerationJob(asked, sampling, heard.put, adapter, scored=True, **{"prompt_scored": True, **more}))
    events: list[Any] = []
    while not isinstance(event := heard.get(timeout=60), JobFinished):
        if isinstance(event, JobFailed):
            raise event.error
        events.append(event)
    return events


def scored(engine: Engine, asked: list[int], adapter: str = "") -> tuple[int, list[TokenScore]]:
    """How much was known, and the scores of a prompt."""
    known, found = told(engine, asked, adapter)
    assert isinstance(known, PrefixHit)
    assert isinstance(found, PromptScores)
    return known.tokens, found.scores


@cache
def loaded(folder: Path | None) -> GlmForCausalLM:
    return load_model(BASE, folder, device="cpu")


def alone(asked: list[int], folder: Path | None) -> torch.Tensor:
    """The log-probabilities (T, V) by transformers' own forward pass, with a model that holds this adapter alone."""
    model = loaded(folder)
    with torch.inference_mode():
        return model(input_ids=torch.tensor([asked])).logits[0].float().log_softmax(-1)


def same(found: list[TokenScore], wanted: torch.Tensor, asked: list[int]) -> None:
    """The scores of all tokens of `asked` but the first are those of `wanted` (T, V)."""
    rows, follow = wanted[: len(asked) - 1], torch.tensor(asked[1:])
    torch.testing.assert_close(
        torch.tensor([each.logprob for each in found]), rows.gather(1, follow[:, None])[:, 0], **NEAR
    )
    best = rows.topk(5)
    torch.testing.assert_close(
        torch.tensor([[logprob for _, logprob in each.best] for each in found]), best.values, **NEAR
    )
    named = torch.tensor([[index for index, _ in each.best] for each in found])
    torch.testing.assert_close(rows.gather(1, named), best.values, **NEAR)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [2, 3, 512, 513, 1100])
def test_scores_are_those_of_the_model_alone(engine: Engine, folders: dict[str, Path], name: str, count: int) -> None:
    engine.prefix_cache.clear()
    asked = ids(count)
    known, found = scored(engine, asked, name)
    assert known == 0
    same(found, alone(asked, folders.get(name)), asked)


def test_adapters_differ(engine: Engine) -> None:
    asked = ids(20)
    assert len({tuple(each.logprob for each in scored(engine, asked, name)[1]) for name in NAMES}) == 3


def test_logits_are_made_in_slices(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.prefix_cache.clear()
    asked = ids(40)
    _, wanted = scored(engine, asked)
    engine.prefix_cache.clear()
    monkeypatch.setattr(slices, "_NUMBERS", 7 * 1600)
    _, found = scored(engine, asked)
    assert [each.logprob for each in found] == pytest.approx([each.logprob for each in wanted], abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_gives_the_same_scores(engine: Engine, folders: dict[str, Path], name: str) -> None:
    """Options of one question, the same again, a beginning of it, an answer in between that knows no scores."""
    engine.prefix_cache.clear()
    question = ids(60)
    options = [[*question, *ids(6, seed)[2:]] for seed in (2, 3, 4)]
    assert scored(engine, options[0], name)[0] == 0
    steps = [(options[1], 59), (options[2], 59), (options[2], 63), (question[:30], 29), (question, 29)]
    for asked, wanted in steps:
        known, found = scored(engine, asked, name)
        assert known == wanted
        same(found, alone(asked, folders.get(name)), asked)
    engine.prefix_cache.clear()
    plain = ids(50, 9)
    assert told(engine, plain, name, 3, prompt_scored=False)[0] == PrefixHit(0)
    known, found = scored(engine, [*plain, 5, 6], name)
    assert known == 0, "its keys and values are kept, but not its scores"
    same(found, alone([*plain, 5, 6], folders.get(name)), [*plain, 5, 6])
    follow = [*question, 7, 8, 9]
    scored(engine, question, name)
    first, *_ = told(engine, follow, name, 2, prompt_scored=False)
    assert first == PrefixHit(60)
    known, found = scored(engine, follow, name)
    assert known == 59, "an answer between keeps the scores of what it began with"
    same(found, alone(follow, folders.get(name)), follow)


def test_a_random_walk_over_kept_ones(engine: Engine, folders: dict[str, Path]) -> None:
    """Prompts that share beginnings, scored or only answered, of all adapters in turn: the numbers are those alone."""
    draw, engine_known = random.Random(3), 0
    engine.prefix_cache.clear()
    roots = [ids(300, seed) for seed in range(3)]
    for _ in range(40):
        root, name = draw.choice(roots), draw.choice(NAMES)
        asked = [*root[: draw.randrange(2, 300)], *ids(2 + draw.randrange(12), draw.randrange(3))[2:]]
        if draw.random() < 0.4:
            told(engine, asked, name, draw.randrange(1, 6), prompt_scored=False)
            continue
        known, found = scored(engine, asked, name)
        engine_known += known
        same(found, alone(asked, folders.get(name)), asked)
    assert engine_known > 300, "nothing was kept"


def test_an_answer_is_scored_token_by_token_and_is_the_same_one(engine: Engine) -> None:
    asked = ids(30)
    plain = list(engine.generate(asked, Sampling(temperature=0.0, max_tokens=12)))
    _, _, *chosen = told(engine, asked, most=12)
    assert all(isinstance(each, NewToken) for each in chosen)
    assert [each.id for each in chosen] == plain
    assert all(each.score.best[0] == (each.id, each.score.logprob) for each in chosen), "it took the likeliest"
    logits = alone([*asked, *plain], None)
    for place, each in enumerate(chosen, start=len(asked) - 1):
        assert each.score.logprob == pytest.approx(logits[place, each.id].item(), abs=1e-5)


def test_luck_does_not_change_what_is_told_of_the_model(engine: Engine) -> None:
    heard: queue.Queue[Any] = queue.Queue()
    asked, sampling = ids(30), Sampling(temperature=2.0, top_p=0.5, max_tokens=1, seed=4)
    engine.submit(GenerationJob(asked, sampling, heard.put, scored=True))
    assert isinstance(heard.get(timeout=60), PrefixHit)
    chosen = heard.get(timeout=60)
    assert chosen.score.logprob == pytest.approx(alone(asked, None)[-1, chosen.id].item(), abs=1e-5)


def test_nothing_is_made_where_nothing_is_asked(engine: Engine) -> None:
    assert [type(item) for item in told(engine, ids(30), most=0)] == [PrefixHit, PromptScores]
    assert [type(item) for item in told(engine, ids(1 + 1), most=0, prompt_scored=False)] == [PrefixHit]


def test_numbers_that_are_none_can_be_written_as_json() -> None:
    for broken in (torch.nan, torch.inf, -torch.inf):
        score = score_of(torch.tensor([0.0, broken, 1.0]), 1)
        assert all(-9999 <= number <= 0 for number in (score.logprob, *(each for _, each in score.best)))


TEXTS = ("Hello  world 你好🙂 ok", " lead", "  two\n\tx ", "世界 界", "", "a", "🙂🙂", "\u2581x", "x\r\ny\0z")


@pytest.mark.parametrize("text", TEXTS)
def test_offsets_lead_to_what_each_id_says(text: str) -> None:
    tokenizer = Tokenizer(BASE)
    found = tokenizer.encode(text)
    offsets, shown = tokenizer.offsets(found), tokenizer.decode(found)
    assert offsets == sorted(offsets)
    assert len(shown) == len(text)
    for place, (index, start) in enumerate(zip(found, offsets, strict=True)):
        end = offsets[place + 1] if place + 1 < len(found) else len(shown)
        said = tokenizer.spell([index])
        if "\ufffd" not in said:
            assert shown[start:end] == (said.removeprefix(" ") if place == 0 else said)
        else:
            assert end - start in (0, 1), "a byte is at the character that it is part of"
    marked = [1537, 1539, *found, 1542]
    assert tokenizer.offsets(marked) == [0, 0, *offsets, len(shown)]


def test_text_that_goes_on_keeps_its_first_space() -> None:
    tokenizer = Tokenizer(BASE)
    found = tokenizer.encode("and more 界")
    stream, fresh = TextStream(tokenizer, begun=True), TextStream(tokenizer)
    assert "".join(map(stream.push, found)) + stream.flush() == " and more 界"
    assert "".join(map(fresh.push, found)) + fresh.flush() == "and more 界"
