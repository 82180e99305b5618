"""The engine without HTTP: adapters beside one set of weights, kept keys and values, turns, luck, memory."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from glmstudio.chat.sampling import Sampling
from glmstudio.data.protocol.prompt import chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.demo.world import World
from glmstudio.errors import StudioError
from glmstudio.families.message import Message, tools_message
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.glm.decode import DecodeForward
from glmstudio.glm.load import load_model
from glmstudio.serve.engine import Engine, GenerationJob
from glmstudio.serve.events import Event, JobFailed, JobFinished, NewToken, NoMemoryError, PrefixHit, PromptScores
from glmstudio.serve.fair_queue import FairQueue, FullError
from glmstudio.tools.toolbox import trained
from tests.adapters import BASE, lora, prefix

GREEDY = Sampling(temperature=0.0, max_tokens=24)
NAMES = ("", "soft", "soft2", "low", "low2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("adapters")
    made = {"soft": prefix(home / "soft", 1), "soft2": prefix(home / "soft2", 2)}
    return made | {"low": lora(home / "low", 3), "low2": lora(home / "low2", 4)}


@pytest.fixture
def engine(folders: dict[str, Path]) -> Iterator[Engine]:
    made = Engine(AdapterPool(load_model(BASE, device="cpu")), tokenizer().stop_ids)
    for name, folder in folders.items():
        made.add(name, folder)
    yield made
    made.end()


def tokenizer() -> Tokenizer:
    return Tokenizer(BASE)


def prompt(seed: int) -> list[int]:
    question = World(seed, held_out=True).tool_exchange("en").turns[0]["content"]
    tools = [tool.schema for tool in trained().values()]
    return chat_ids(tokenizer(), [tools_message(tools), Message("user", question)])


def answer(engine: Engine, ids: list[int], adapter: str = "", sampling: Sampling = GREEDY) -> list[int]:
    return list(engine.generate(ids, sampling, adapter))


def alone(ids: list[int], folder: Path | None) -> list[int]:
    """What transformers' own `generate` says with a model that holds this adapter and nothing else."""
    model = load_model(BASE, folder, device="cpu")
    given = torch.tensor([ids])
    with torch.inference_mode():
        out = model.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=GREEDY.max_tokens,
            do_sample=False,
            eos_token_id=list(tokenizer().stop_ids),
            pad_token_id=0,
        )
    return out[0, len(ids) :].tolist()


@pytest.mark.slow
def test_each_adapter_answers_as_it_does_alone_however_they_are_mixed(engine: Engine, folders: dict[str, Path]) -> None:
    asked = [prompt(seed) for seed in (1, 2)]
    wanted = {(name, at): alone(ids, folders.get(name)) for name in NAMES for at, ids in enumerate(asked)}
    assert len({tuple(wanted[name, 0]) for name in NAMES}) > 3, "the adapters must differ for this to show anything"
    order = [(name, at) for name in NAMES for at in range(2)] * 3
    random.Random(5).shuffle(order)
    for name, at in order:
        assert answer(engine, asked[at], name) == wanted[name, at]


def test_switching_moves_no_base_weight_and_leaves_the_base_bit_for_bit(
    engine: Engine, folders: dict[str, Path]
) -> None:
    model = engine.adapters.model
    plain = load_model(BASE, device="cpu")
    ids = torch.tensor([prompt(3)])
    with torch.inference_mode():
        wanted = plain(input_ids=ids).logits
        places = {name: each.data_ptr() for name, each in model.named_parameters() if "lora_" not in name}
        for name in (*NAMES, ""):
            engine.adapters.use(name)
            same = torch.equal(model(input_ids=ids).logits, wanted)
            assert same is (name == ""), name
    assert {n: e.data_ptr() for n, e in model.named_parameters() if "lora_" not in n and n in places} == places


def test_adapters_are_described_by_the_tensors_in_use(engine: Engine, folders: dict[str, Path], tmp_path: Path) -> None:
    told = {name: engine.adapters.describe(name) for name in NAMES}
    assert [told[name].kind for name in NAMES] == ["base", "prefix", "prefix", "lora", "lora"]
    assert [told[name].size for name in NAMES] == [0, 6, 6, 4, 4]
    assert len({told[name].fingerprint for name in NAMES}) == 5
    engine.add("again", folders["soft"])
    engine.add("low again", folders["low"])
    assert engine.adapters.describe("again") == told["soft"]
    assert engine.adapters.describe("low again") == told["low"]
    engine.add("low again", folders["low2"])
    assert engine.adapters.describe("low again") == told["low"]
    with torch.no_grad():
        engine.adapters.use("soft")
        engine.adapters.model.prefix.embedding.weight[0, 0] += 1
    assert engine.adapters._describe("soft") != told["soft"], "it is computed from what answers, not from the file"
    with pytest.raises(StudioError):
        engine.add("none", tmp_path)
    assert engine.adapters.names == ["soft", "soft2", "again", "low", "low2", "low again"]


def test_kept_keys_change_no_answer(engine: Engine) -> None:
    known: list[int] = []
    for seed in range(6):
        name = NAMES[seed % len(NAMES)]
        ids = prompt(seed)
        first = answer(engine, ids, name)
        follow = [*ids, *first, *tokenizer().encode("\n 444"), tokenizer().special["<|assistant|>"]]
        # the next round, the same again, a branch from the first question, and a cut that ends in a known part
        for each in (follow, follow, [*ids[:-1], *tokenizer().encode(" more"), ids[-1]], ids[: len(ids) // 2]):
            before = known_tokens(engine, each, name)
            kept = answer(engine, each, name)
            engine.prefix_cache.clear()
            assert answer(engine, each, name) == kept
            known.append(before)
            answer(engine, ids, name)
    assert sum(known) > 1500, "nothing was kept"
    assert engine.prefix_cache.tokens <= 2 * engine.context


def events_of(engine: Engine, ids: list[int], sampling: Sampling, **more: Any) -> list[Any]:
    """All that the engine tells of a job, with its end."""
    heard: queue.Queue[Event] = queue.Queue()
    engine.submit(GenerationJob(ids, sampling, heard.put, **more))
    events = [heard.get(timeout=60)]
    while not isinstance(events[-1], JobFinished | JobFailed):
        events.append(heard.get(timeout=60))
    return events


def known_tokens(engine: Engine, ids: list[int], adapter: str) -> int:
    first, *_ = events_of(engine, ids, Sampling(temperature=0.0, max_tokens=1), adapter=adapter)
    assert isinstance(first, PrefixHit)
    return first.tokens


def test_what_is_kept_belongs_to_its_adapter(engine: Engine) -> None:
    ids = prompt(4)
    answer(engine, ids, "soft")
    assert known_tokens(engine, ids, "soft2") == 0
    assert known_tokens(engine, ids, "") == 0
    assert known_tokens(engine, ids, "soft") == len(ids) - 1


def test_what_is_kept_is_bounded_and_the_last_one_used_stays(engine: Engine) -> None:
    for seed in range(20):
        answer(engine, prompt(seed))
    assert len(engine.prefix_cache._entries) <= 8
    assert known_tokens(engine, prompt(19), "") > 100


def test_a_seed_repeats_an_answer_whatever_came_between(engine: Engine) -> None:
    ids, lucky = prompt(6), Sampling(temperature=1.5, top_p=1.0, max_tokens=12, seed=11)
    first = answer(engine, ids, "", lucky)
    torch.manual_seed(0)
    answer(engine, prompt(7), "soft", Sampling(temperature=1.0, max_tokens=5))
    assert answer(engine, ids, "", lucky) == first
    others = {tuple(answer(engine, ids, "", Sampling(1.5, 1.0, 12, seed))) for seed in range(4)}
    assert len(others) > 1


def test_an_answer_can_be_made_to_begin_with_one_of_several(engine: Engine) -> None:
    begin = [tokenizer().encode(f"{name}\n") for name in ("roll_dice", "get_time")]
    events = events_of(engine, prompt(8), GREEDY, begin=begin)
    ids = [event.id for event in events if isinstance(event, NewToken)]
    assert any(ids[: len(each)] == each for each in begin)


def test_cancel_ends_a_long_prompt_between_two_pieces(engine: Engine) -> None:
    told: list[Any] = []
    done = threading.Event()

    def put(item: Any) -> None:
        told.append(item)
        if isinstance(item, PrefixHit):
            job.cancel.set()
        if isinstance(item, JobFinished):
            done.set()

    job = GenerationJob([5] * 2000, GREEDY, put)
    engine.submit(job)
    assert done.wait(30)
    assert told == [PrefixHit(0), JobFinished()]


def test_an_adapter_is_not_added_behind_a_flood(engine: Engine, folders: dict[str, Path]) -> None:
    over: list[Any] = []
    done = threading.Event()

    def put(item: Any) -> None:
        if not isinstance(item, NewToken | PrefixHit):
            over.append(item)
        if len(over) == 10:
            done.set()

    for _ in range(10):
        engine.submit(GenerationJob(prompt(1), Sampling(temperature=0.0, max_tokens=60), put, "low"))
    engine.add("late", folders["soft"])
    assert len(over) <= 3
    assert done.wait(60)
    assert over == [JobFinished()] * 10


class Short(DecodeForward):
    """It has memory for so many tokens at once, and none for more."""

    def __init__(self, model: Any, most: int) -> None:
        super().__init__(model)
        self.most, self.tried = most, 0

    def states(self, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if ids.shape[1] > self.most:
            self.tried += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().states(ids, *rest)


def test_too_little_memory_is_an_answer_and_the_next_one_is_served(engine: Engine) -> None:
    ids = prompt(9)
    wanted = answer(engine, ids)
    engine._decoder._forward = short = Short(engine.adapters.model, 100)
    engine.prefix_cache.clear()
    with pytest.raises(NoMemoryError) as caught:
        answer(engine, ids)
    assert (caught.value.tokens, short.tried, engine.prefix_cache.tokens) == (len(ids), 2, 0)
    assert engine._decoder._cache is None, "the conversation that found no room is held no longer"
    short.most = 10_000
    assert answer(engine, ids) == wanted


def test_too_little_memory_for_scores_is_told(engine: Engine) -> None:
    told: queue.Queue[Any] = queue.Queue()
    short = engine._decoder._forward = Short(engine.adapters.model, 300)
    scored = GenerationJob([5] * 400, Sampling(max_tokens=0), told.put, prompt_scored=True)
    engine.submit(scored)
    heard = [told.get(timeout=60) for _ in range(3)]
    assert heard[:2] == [PrefixHit(0)] * 2, "once more with what was kept given back"
    assert isinstance(heard[2].error, NoMemoryError)
    short.most = 10_000
    engine.submit(scored)
    assert [type(told.get(timeout=60)) for _ in range(3)] == [PrefixHit, PromptScores, JobFinished]


def test_turns_are_fair() -> None:
    turns: FairQueue[str] = FairQueue(most=8)
    for job in ("a1", "a2", "a3", "b1", "c1", "b2"):
        turns.join(job[0], job)
    assert turns.order() == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert turns.next() == "a1"
    turns.join("d", "d1")
    turns.leave("c1")
    assert turns.order() == ["b1", "a2", "d1", "b2", "a3"]
    assert [turns.next() for _ in range(5)] == ["b1", "a2", "d1", "b2", "a3"]
    assert turns.next(timeout=0.01) is None
    for number in range(8):
        turns.join("a", f"x{number}")
    with pytest.raises(FullError):
        turns.join("b", "one too many")
