"""Ids in, ids out: one model, one thread, one answer at a time, ended at once when nobody listens any more."""

from __future__ import annotations

import gc
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from glmstudio.chat.sampling import Sampling
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.serve.decoders import EagerDecoder
from glmstudio.serve.fair_queue import FairQueue
from glmstudio.serve.prefix_cache import PrefixCache
from glmstudio.serve.protocol.scores import TokenScore, score_of, scores_of

log = logging.getLogger(__name__)

_CHUNK = 512  # tokens of a prompt at once: between two chunks somebody may leave
_OWN = "\0"  # whose turn the studio's own errands take: not behind all that say no name
_KEPT_CONTEXTS = 2  # so many full conversations are kept
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "alloc_cpu")


@dataclass(frozen=True)
class PrefixHit:
    """The first so many tokens of the prompt were computed before."""

    tokens: int


@dataclass(frozen=True)
class PromptScores:
    """The scores of all tokens of the prompt but the first one."""

    scores: list[TokenScore]


@dataclass(frozen=True)
class Chosen:
    """An id of the answer and its score, by the logits as they are, whatever the sampling makes of them."""

    token: int
    score: TokenScore


class NoMemoryError(Exception):
    """The memory is not enough for a conversation of so many `tokens`, not even alone."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        self.tokens = tokens


@dataclass(eq=False)
class GenerationJob:
    """One answer: `put` hears, from the engine's thread, one `PrefixHit`, then each id, then None or the exception.

    `begin`: sequences of ids one of which the answer has to begin with; none for a free one. With `scored`, each id
    comes as a `Chosen`; with `prompt_scored`, `PromptScores` come before the first of them.
    """

    prompt: Sequence[int]
    sampling: Sampling
    put: Callable[[Any], None]
    adapter: str = ""
    client: str = ""
    begin: Sequence[Sequence[int]] = ()
    scored: bool = False
    prompt_scored: bool = False
    cancel: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Errand:
    """Something else that has to be done between two answers."""

    do: Callable[[], Any]
    put: Callable[[Any], None]


class Engine:
    """The engine knows nothing about text. Whatever touches the model is done by its own thread, in turn."""

    def __init__(self, shelf: AdapterPool, stop_ids: Sequence[int], steps: EagerDecoder | None = None) -> None:
        self.shelf = shelf
        self._model = shelf.model
        self._steps = steps or EagerDecoder(shelf.model)
        self._stop_ids = frozenset(stop_ids)
        self.context: int = self._model.config.max_position_embeddings
        self.kept = PrefixCache(self._model.config, _KEPT_CONTEXTS * self.context)
        self.turns: FairQueue[GenerationJob | _Errand] = FairQueue()
        self.busy = self._ended = False
        threading.Thread(target=self._work, daemon=True, name="engine").start()

    def submit(self, job: GenerationJob) -> None:
        """Have the job done in its turn. Raises FullError."""
        self.turns.join(job.client, job)

    def before(self, job: GenerationJob) -> int | None:
        """How many are served before the job; None once its turn has come."""
        order = self.turns.order()
        return order.index(job) + self.busy if job in order else None

    def generate(self, prompt: Sequence[int], sampling: Sampling, adapter: str = "") -> Iterator[int]:
        """Yield the ids of one answer, with the stop id at its end. Raises what torch raises."""
        told: queue.Queue[Any] = queue.Queue()
        job = GenerationJob(prompt, sampling, told.put, adapter)
        self.submit(job)
        try:
            while (item := told.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, int):
                    yield item
        finally:
            job.cancel.set()

    def add(self, name: str, folder: Any) -> None:
        """Put an adapter beside the weights, between two answers. Raises StudioError."""
        told: queue.Queue[Any] = queue.Queue()
        self.turns.join(_OWN, _Errand(lambda: self.shelf.add(name, folder), told.put))
        if isinstance(problem := told.get(), Exception):
            raise problem

    def end(self) -> None:
        """Serve nobody any more, and let go of the model."""
        told: queue.Queue[Any] = queue.Queue()
        self.turns.join(_OWN, _Errand(self._let_go, told.put))
        told.get()

    def _let_go(self) -> None:
        self._ended = True
        self._give_back()
        del self.shelf, self._model, self._steps

    def _work(self) -> None:
        while not self._ended:
            self.busy = False
            job = self.turns.next()
            self.busy = True
            if job is not None:
                self._do(job)
            job = None  # an answer that is over must not hold its prompt until the next one

    def _do(self, job: GenerationJob | _Errand) -> None:
        try:
            if isinstance(job, _Errand):
                job.do()
            else:
                self._answer(job)
            job.put(None)
        except NoMemoryError as error:
            # No trace in the log: whoever looks there for the cause of a crash would take it for one.
            log.warning("A conversation of %d tokens found no room", error.tokens)
            job.put(error.with_traceback(None))
        except Exception as error:
            log.exception("An answer broke")
            job.put(error.with_traceback(None))

    def _answer(self, job: GenerationJob) -> None:
        """The answer; where the memory is not enough, once more with all that was kept given back."""
        given: list[int] = []
        try:
            self._generate(job, given)
            return
        except Exception as error:
            if not _is_memory(error):
                raise
        self._give_back()
        if given:  # somebody has read the first half
            raise NoMemoryError(len(job.prompt) + len(given))
        try:
            self._generate(job, given)
        except Exception as error:
            if not _is_memory(error):
                raise
            del error
            self._give_back()
            raise NoMemoryError(len(job.prompt) + len(given)) from None

    def _give_back(self) -> None:
        self.kept.clear()
        self._steps.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _generate(self, job: GenerationJob, given: list[int]) -> None:
        if job.cancel.is_set():
            return
        try:
            with torch.inference_mode():
                self._decode(job, given)
        finally:
            self._steps.forget()

    def _decode(self, job: GenerationJob, given: list[int]) -> None:
        self.shelf.use(job.adapter)
        cache, known, scores = self.kept.take(job.adapter, job.prompt, scored=job.prompt_scored)
        job.put(PrefixHit(known))
        choose = _Chooser(job.sampling, job.begin, self._model.device)
        ids, logits = list(job.prompt), None
        self._steps.begin(job.adapter, cache)
        for start in range(known, len(ids), _CHUNK):
            if job.cancel.is_set():
                break
            if job.prompt_scored:
                logits = self._read_scored(ids, start, scores)
            else:
                logits = self._steps.read(ids[start : start + _CHUNK])
        if job.prompt_scored and not job.cancel.is_set():
            job.put(PromptScores(list(scores)))
        while len(given) < job.sampling.max_tokens and not job.cancel.is_set():
            token = choose(logits, given)
            given.append(token)
            ids.append(token)
            job.put(Chosen(token, score_of(logits, token)) if job.scored and logits is not None else token)
            if token in self._stop_ids or len(given) >= job.sampling.max_tokens:
                break
            logits = self._steps.step(token)
        self._steps.end()
        # Not after an error: some layers may hold what others do not.
        if cache.get_seq_length():
            self.kept.put(job.adapter, ids, cache, scores)

    def _read_scored(self, ids: Sequence[int], start: int, scores: list[TokenScore]) -> torch.Tensor:
        """Read a piece of the prompt; adds the scores of what follows each of its tokens. Returns the logits (V)."""
        end = min(start + _CHUNK, len(ids))
        states, follow = self._steps.states(ids[start:end]), ids[start + 1 : end + 1]
        scores += scores_of(states[: len(follow)], follow, self._steps.logits, self._model.config.vocab_size)
        return self._steps.logits(states[-1])


class _Chooser:
    """Picks the next token; with a seed the same ones each time, whatever else was answered between."""

    def __init__(self, sampling: Sampling, begin: Sequence[Sequence[int]], device: torch.device) -> None:
        self._begin = [list(each) for each in begin]
        self._greedy = sampling.temperature <= 0
        self._luck = torch.Generator(device)
        if sampling.seed is None:
            self._luck.seed()
        else:
            self._luck.manual_seed(sampling.seed)
        self._warpers: list[Any] = []
        if not self._greedy:
            self._warpers = [TemperatureLogitsWarper(float(sampling.temperature)), TopPLogitsWarper(sampling.top_p)]

    def __call__(self, logits: torch.Tensor | None, given: Sequence[int]) -> int:
        if logits is None:
            raise ValueError("There is nothing to go on from.")
        allowed = self._allowed(given)
        if allowed:
            held = torch.full_like(logits, -torch.inf)
            held[allowed] = logits[allowed]
            logits = held
        if self._greedy:
            return int(logits.argmax())
        scores = logits[None]
        for warp in self._warpers:
            scores = warp(None, scores)
        return int(torch.multinomial(scores[0].softmax(-1), 1, generator=self._luck))

    def _allowed(self, given: Sequence[int]) -> list[int]:
        """The ids that may come next; empty where any may."""
        place = len(given)
        going = [each for each in self._begin if each[:place] == list(given[: len(each)])]
        if any(len(each) <= place for each in going):
            return []
        return [each[place] for each in going]


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error).lower() for mark in _NO_MEMORY)
