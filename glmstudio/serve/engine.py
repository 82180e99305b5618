"""Ids in, ids out: one model, one thread, one answer at a time, ended at once when nobody listens any more."""

from __future__ import annotations

import gc
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from glmstudio.chat.sampling import Sampling
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.serve.decoders import EagerDecoder
from glmstudio.serve.events import Event, JobFailed, JobFinished, NewToken, NoMemoryError, PrefixHit, PromptScores
from glmstudio.serve.fair_queue import FairQueue
from glmstudio.serve.prefix_cache import PrefixCache
from glmstudio.serve.token_scores import TokenScore, score_of, scores_of

log = logging.getLogger(__name__)

_CHUNK = 512  # tokens of a prompt at once: between two chunks somebody may leave
_STUDIO = "\0"  # the client that the studio's own tasks have: not behind all that say no name
_CACHED_CONTEXTS = 2  # so many full conversations are cached
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "alloc_cpu")


@dataclass(eq=False)
class GenerationJob:
    """One answer: `put` hears, from the engine's thread, each event of it, the last one being its end.

    `begin`: sequences of ids one of which the answer has to begin with; none for a free one. With `scored`, each new
    token has its score; with `prompt_scored`, `PromptScores` come before the first of them.
    """

    prompt: Sequence[int]
    sampling: Sampling
    put: Callable[[Event], None]
    adapter: str = ""
    client: str = ""
    begin: Sequence[Sequence[int]] = ()
    scored: bool = False
    prompt_scored: bool = False
    cancel: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Task:
    """Something else that has to be done between two answers."""

    do: Callable[[], object]
    done: Future[None] = field(default_factory=Future)


class Engine:
    """The engine knows nothing about text. Whatever touches the model is done by its own thread, in turn."""

    def __init__(self, adapters: AdapterPool, stop_ids: Sequence[int], decoder: EagerDecoder | None = None) -> None:
        self.adapters = adapters
        self._model = adapters.model
        self._decoder = decoder or EagerDecoder(adapters.model)
        self._stop_ids = frozenset(stop_ids)
        self.context: int = self._model.config.max_position_embeddings
        self.prefix_cache = PrefixCache(self._model.config, _CACHED_CONTEXTS * self.context)
        self.queue: FairQueue[GenerationJob | _Task] = FairQueue()
        self.busy = self._ended = False
        threading.Thread(target=self._work, daemon=True, name="engine").start()

    def submit(self, job: GenerationJob) -> None:
        """Have the job done in its turn. Raises FullError."""
        self.queue.join(job.client, job)

    def cancel(self, job: GenerationJob) -> None:
        """End the job, whether it waits or is being answered; nothing where it is over."""
        job.cancel.set()
        self.queue.leave(job)

    def before(self, job: GenerationJob) -> int | None:
        """How many are served before the job; None once its turn has come."""
        order = self.queue.order()
        return order.index(job) + self.busy if job in order else None

    def generate(self, prompt: Sequence[int], sampling: Sampling, adapter: str = "") -> Iterator[int]:
        """Yield the ids of one answer, with the stop id at its end. Raises what torch raises."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        job = GenerationJob(prompt, sampling, events.put, adapter)
        self.submit(job)
        try:
            while not isinstance(event := events.get(), JobFinished):
                if isinstance(event, JobFailed):
                    raise event.error
                if isinstance(event, NewToken):
                    yield event.id
        finally:
            self.cancel(job)

    def add(self, name: str, folder: Path) -> None:
        """Put an adapter beside the weights, between two answers. Raises StudioError."""
        self._between_answers(lambda: self.adapters.add(name, folder))

    def end(self) -> None:
        """Serve nobody any more, and let go of the model."""
        self._between_answers(self._let_go)

    def _between_answers(self, do: Callable[[], object]) -> None:
        task = _Task(do)
        self.queue.join(_STUDIO, task)
        task.done.result()

    def _let_go(self) -> None:
        self._ended = True
        self._free_memory()
        del self.adapters, self._model, self._decoder

    def _work(self) -> None:
        while not self._ended:
            self.busy = False
            job = self.queue.next()
            self.busy = True
            if isinstance(job, _Task):
                self._run(job)
            elif job is not None:
                job.put(self._ending(job))
            job = None  # an answer that is over must not hold its prompt until the next one

    def _run(self, task: _Task) -> None:
        try:
            task.do()
        except Exception as error:
            log.exception("A task broke")
            task.done.set_exception(error.with_traceback(None))
        else:
            task.done.set_result(None)

    def _ending(self, job: GenerationJob) -> JobFinished | JobFailed:
        """Answer; returns how that ended."""
        try:
            self._answer(job)
        except NoMemoryError as error:
            # No trace in the log: whoever looks there for the cause of a crash would take it for one.
            log.warning("A conversation of %d tokens found no room", error.tokens)
            return JobFailed(error.with_traceback(None))
        except Exception as error:
            log.exception("An answer broke")
            return JobFailed(error.with_traceback(None))
        return JobFinished()

    def _answer(self, job: GenerationJob) -> None:
        """The answer; where the memory is not enough, once more with all that was cached given back."""
        given: list[int] = []
        try:
            self._generate(job, given)
            return
        except Exception as error:
            if not _is_memory(error):
                raise
        self._free_memory()
        if given:  # somebody has read the first half
            raise NoMemoryError(len(job.prompt) + len(given))
        try:
            self._generate(job, given)
        except Exception as error:
            if not _is_memory(error):
                raise
            del error
            self._free_memory()
            raise NoMemoryError(len(job.prompt) + len(given)) from None

    def _free_memory(self) -> None:
        self.prefix_cache.clear()
        self._decoder.clear()
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
            self._decoder.forget()

    def _decode(self, job: GenerationJob, given: list[int]) -> None:
        self.adapters.use(job.adapter)
        cache, known, scores = self.prefix_cache.take(job.adapter, job.prompt, scored=job.prompt_scored)
        job.put(PrefixHit(known))
        sample = _Sampler(job.sampling, job.begin, self._model.device)
        ids, logits = list(job.prompt), None
        self._decoder.begin(job.adapter, cache)
        for start in range(known, len(ids), _CHUNK):
            if job.cancel.is_set():
                break
            if job.prompt_scored:
                logits = self._read_scored(ids, start, scores)
            else:
                logits = self._decoder.read(ids[start : start + _CHUNK])
        if job.prompt_scored and not job.cancel.is_set():
            job.put(PromptScores(list(scores)))
        while len(given) < job.sampling.max_tokens and not job.cancel.is_set():
            token = sample(logits, given)
            given.append(token)
            ids.append(token)
            job.put(NewToken(token, score_of(logits, token) if job.scored and logits is not None else None))
            if token in self._stop_ids or len(given) >= job.sampling.max_tokens:
                break
            logits = self._decoder.step(token)
        self._decoder.end()
        # Not after an error: some layers may hold what others do not.
        if cache.get_seq_length():
            self.prefix_cache.put(job.adapter, ids, cache, scores)

    def _read_scored(self, ids: Sequence[int], start: int, scores: list[TokenScore]) -> torch.Tensor:
        """Read a piece of the prompt; adds the scores of what follows each of its tokens. Returns the logits (V)."""
        end = min(start + _CHUNK, len(ids))
        states, follow = self._decoder.states(ids[start:end]), ids[start + 1 : end + 1]
        scores += scores_of(states[: len(follow)], follow, self._decoder.logits, self._model.config.vocab_size)
        return self._decoder.logits(states[-1])


class _Sampler:
    """Picks the next token; with a seed the same ones each time, whatever else was answered between."""

    def __init__(self, sampling: Sampling, begin: Sequence[Sequence[int]], device: torch.device) -> None:
        self._begin = [list(each) for each in begin]
        self._greedy = sampling.temperature <= 0
        self._generator = torch.Generator(device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)
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
        return int(torch.multinomial(scores[0].softmax(-1), 1, generator=self._generator))

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
