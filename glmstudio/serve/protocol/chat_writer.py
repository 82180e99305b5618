"""From the ids of one answer to the pieces that a client reads: text, calls, why it ended and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glmstudio.chat.openai_messages import AnswerParser, Begun, Filled, assistant_message, tool_names
from glmstudio.data.protocol.tokenizer import TextStream, Tokenizer
from glmstudio.serve.engine import GenerationJob
from glmstudio.serve.events import Event, NewToken, PrefixHit
from glmstudio.serve.protocol.chat_request import Request
from glmstudio.serve.protocol.stops import Stops

Piece = str | dict[str, Any]
"""Text, or a delta of `tool_calls`."""


@dataclass(frozen=True)
class Done:
    """The end: what was still held back, the reason (stop, length or tool_calls), and OpenAI's usage."""

    pieces: list[Piece]
    reason: str
    usage: dict[str, Any]


class Writer:
    """Takes what the engine tells of one job."""

    def __init__(self, tokenizer: Tokenizer, asked: Request, job: GenerationJob, *, begun: bool = False) -> None:
        self._tokenizer, self._asked, self._job = tokenizer, asked, job
        self._between = tokenizer.assistant
        self._answer = AnswerParser(tokenizer.family, may_call=bool(asked.tools), tools=tool_names(asked.tools))
        self._stops = Stops(asked.stops)
        self._stream = TextStream(tokenizer)
        self._said = ""
        # Where the prompt ends with the beginning of the answer, that is part of what is shown.
        self._begun = self._answer.push(tokenizer.family.answer_begins if begun else "")
        self._known = self._count = 0
        self._over = self._ended = False

    def take(self, event: Event) -> list[Piece]:
        """One thing that the engine told; returns what a client may see of it."""
        if isinstance(event, PrefixHit):
            self._known = event.tokens
        # How far the engine came before it heard that the answer is over is chance.
        if self._over or not isinstance(event, NewToken):
            return []
        self._count += 1
        self._ended = event.id in self._tokenizer.stop_ids
        if self._ended:
            return []
        begun, self._begun = self._begun, []
        if event.id != self._between:
            return self._shown(begun + self._answer.push(self._stream.push(event.id)))
        pieces = (
            self._shown(begun) + self._end_segment()
        )  # the model goes on in a new segment: a call after a thought, a second call
        if self._answer.calls and self._asked.one_call:
            self._finish()
        return pieces

    def end(self) -> Done:
        """Nothing more comes."""
        pieces = [] if self._over else self._end_segment()
        held = self._stops.flush()
        if held:
            pieces.append(held)
            self._said += held
        reason = "tool_calls" if self._answer.calls else "stop"
        if self._count >= self._job.sampling.max_tokens and not (self._over or self._ended):
            reason = "length"
        return Done(pieces, reason, self._usage())

    def message(self) -> dict[str, Any]:
        """The whole answer as one message."""
        return assistant_message(self._said, self._answer.calls) | {"refusal": None}

    def _end_segment(self) -> list[Piece]:
        pieces = self._shown(self._answer.push(self._stream.flush()) + self._answer.end_segment())
        self._stream = TextStream(self._tokenizer)
        return pieces

    def _shown(self, found: list[str | Begun | Filled]) -> list[Piece]:
        pieces: list[Piece] = []
        for piece in found:
            if isinstance(piece, Begun):
                function = {"name": piece.name, "arguments": ""}
                pieces.append({"index": piece.index, "id": piece.id, "type": "function", "function": function})
            elif isinstance(piece, Filled):
                pieces.append({"index": piece.index, "function": {"arguments": piece.arguments}})
            elif text := self._stops.push(piece):
                self._said += text
                pieces.append(text)
        if self._stops.met:
            self._finish()
        return pieces

    def _finish(self) -> None:
        """Enough was said; the engine may serve somebody else."""
        self._over = True
        self._job.cancel.set()

    def _usage(self) -> dict[str, Any]:
        prompt = len(self._job.prompt)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._count,
            "total_tokens": prompt + self._count,
            "prompt_tokens_details": {"cached_tokens": self._known},
        }
