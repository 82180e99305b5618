"""Ids in, ids out: one model, one answer at a time, cancelled at once when nobody listens any more."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import GlmForCausalLM, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from glmstudio.data.tokenizer import PAD

_END = None


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; `temperature` 0 takes the most likely one."""

    temperature: float = 0.8
    top_p: float = 0.8
    max_tokens: int = 1024
    seed: int | None = None


class Engine:
    """The engine knows nothing about text: it gets ids and yields ids until a stop id, which it yields too."""

    def __init__(self, model: GlmForCausalLM, stop_ids: Sequence[int]) -> None:
        self._model = model
        self._stop_ids = list(stop_ids)
        self._turn = threading.Lock()
        self.context = model.config.max_position_embeddings

    def generate(self, prompt: Sequence[int], sampling: Sampling, cancel: threading.Event) -> Iterator[int]:
        """Yield the answer's ids. Waits for its turn; ends early when `cancel` is set. Raises what torch raises."""
        tokens: queue.Queue[int | Exception | None] = queue.Queue()
        worker = threading.Thread(target=self._work, args=(prompt, sampling, cancel, tokens), daemon=True)
        worker.start()
        try:
            while (token := tokens.get()) is not _END:
                if isinstance(token, Exception):
                    raise token
                yield token
        finally:
            cancel.set()

    def _work(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        cancel: threading.Event,
        tokens: queue.Queue[int | Exception | None],
    ) -> None:
        # The turn is this thread's, not the generator's: one that nobody reads to its end may linger for long.
        try:
            with self._turn:
                if not cancel.is_set():
                    self._answer(prompt, sampling, cancel, _Streamer(tokens))
        except Exception as error:  # noqa: BLE001  handed to the thread that waits for the answer
            tokens.put(error)
        finally:
            tokens.put(_END)

    def _answer(
        self, prompt: Sequence[int], sampling: Sampling, cancel: threading.Event, streamer: BaseStreamer
    ) -> None:
        ids = torch.tensor([list(prompt)], device=self._model.device)
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        greedy = sampling.temperature <= 0
        choice = {} if greedy else {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        with torch.inference_mode():
            self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=sampling.max_tokens,
                do_sample=not greedy,
                eos_token_id=self._stop_ids,
                pad_token_id=PAD,
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([_Cancelled(cancel)]),
                **choice,
            )


class _Streamer(BaseStreamer):
    def __init__(self, tokens: queue.Queue[int | Exception | None]) -> None:
        self._tokens, self._prompt_passed = tokens, False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_passed:
            self._prompt_passed = True
            return
        for token in value.flatten().tolist():
            self._tokens.put(token)

    def end(self) -> None:
        """The queue is closed by the worker."""


class _Cancelled(StoppingCriteria):
    def __init__(self, cancel: threading.Event) -> None:
        self._cancel = cancel

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._cancel.is_set(), device=input_ids.device)
