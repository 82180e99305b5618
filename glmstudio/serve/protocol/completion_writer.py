"""From what the engine tells of one prompt to a choice of a completion: text, scores of tokens, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glmstudio.data.protocol.tokenizer import TextStream, Tokenizer
from glmstudio.serve.engine import GenerationJob
from glmstudio.serve.events import Event, NewToken, PrefixHit, PromptScores
from glmstudio.serve.protocol.completion_request import CompletionRequest, Prompt
from glmstudio.serve.protocol.stops import Stops
from glmstudio.serve.token_scores import TokenScore

_FIELDS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


class CompletionWriter:
    """Takes what the engine tells of one prompt; gives choices as they are sent, each with what is new."""

    def __init__(
        self, tokenizer: Tokenizer, asked: CompletionRequest, prompt: Prompt, index: int, job: GenerationJob
    ) -> None:
        self._tokenizer, self._asked, self._prompt, self._job = tokenizer, asked, prompt, job
        self._index = index
        self._stops = Stops(asked.stops)
        self._stream = TextStream(tokenizer, begun=True)  # it goes on with the prompt
        self._length = 0  # of what was written, in characters
        self._echoed = not asked.echo
        self._over = self._ended = False
        self.known = self.count = 0

    def take(self, event: Event) -> dict[str, Any] | None:
        """One thing that the engine told; returns what a client may see of it, where that is anything."""
        if isinstance(event, PrefixHit):
            self.known = event.tokens
            return None if self._job.prompt_scored else self._echo(None)
        if isinstance(event, PromptScores):
            return self._echo(event.scores)
        # How far the engine came before it heard that the answer is over is chance.
        if self._over or not isinstance(event, NewToken):
            return None
        self.count += 1
        self._ended = event.id in self._tokenizer.stop_ids
        logprobs = self._logprobs([event.id], [event.score], [self._length]) if event.score else None
        return self._choice("" if self._ended else self._pushed(self._stream.push(event.id)), logprobs)

    def end(self) -> dict[str, Any]:
        """Nothing more comes: what was held back, and why it ended."""
        held = "" if self._over else self._pushed(self._stream.flush()) + self._stops.flush()
        stopped = self._over or self._ended
        return {"index": self._index, "text": held, "logprobs": None, "finish_reason": "stop" if stopped else "length"}

    def _echo(self, scores: Sequence[TokenScore] | None) -> dict[str, Any] | None:
        """The prompt; not again where the engine had to begin anew."""
        if self._echoed:
            return None
        self._echoed, shown = True, self._prompt.shown
        text = self._tokenizer.decode(shown) if self._prompt.text is None else self._prompt.text
        self._length = len(text)
        if scores is None:
            return self._choice(text, None)
        # Before the first token stood nothing that was sent. scores[i] is of ids[i + 1].
        own = [None, *scores[self._prompt.hidden :]][: len(shown)]
        return self._choice(text, self._logprobs(shown, own, self._tokenizer.offsets(shown)))

    def _pushed(self, text: str) -> str:
        shown = self._stops.push(text)
        self._length += len(shown)
        if self._stops.met:
            self._over = True
            self._job.cancel.set()  # enough was said; the engine may serve somebody else
        return shown

    def _choice(self, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any] | None:
        if not text and logprobs is None:
            return None
        return {"index": self._index, "text": text, "logprobs": logprobs, "finish_reason": None}

    def _logprobs(
        self, ids: Sequence[int], scores: Sequence[TokenScore | None], offsets: Sequence[int]
    ) -> dict[str, Any]:
        """OpenAI's `logprobs`: four lists with an entry for each id."""
        return {
            "tokens": [self._tokenizer.token(index) for index in ids],
            "token_logprobs": [score and score.logprob for score in scores],
            "top_logprobs": [score and self._best(index, score) for index, score in zip(ids, scores, strict=True)],
            "text_offset": list(offsets),
        }

    def _best(self, index: int, score: TokenScore) -> dict[str, float]:
        """The most likely tokens, and in any case the one that is there. Of two that read alike, the likelier."""
        best: dict[str, float] = {}
        for each, logprob in (*score.best[: self._asked.logprobs or 0], (index, score.logprob)):
            best.setdefault(self._tokenizer.token(each), logprob)
        return best


def joined(choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The choices that were sent of one prompt as one, with the index and the reason of the last."""
    logprobs = [each["logprobs"] for each in choices if each["logprobs"] is not None]
    lists = {name: [entry for each in logprobs for entry in each[name]] for name in _FIELDS} if logprobs else None
    return choices[-1] | {"text": "".join(each["text"] for each in choices), "logprobs": lists}
