"""The conversation of this studio: it goes on while the page is reloaded, and one turn runs at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from glmstudio.chat.loop import CallEnded, CallStarted, Finished, TextPart, converse
from glmstudio.errors import StudioError

log = logging.getLogger(__name__)


@dataclass
class Call:
    """A tool call as the page shows it."""

    id: str
    name: str
    arguments: dict[str, Any]
    content: str | None = None
    seconds: float = 0.0
    failed: bool = False


@dataclass
class Turn:
    """A question, and all that came of it in order: text and calls."""

    question: str
    parts: list[str | Call] = field(default_factory=list)
    tokens: int | None = None
    seconds: float | None = None
    reason: str = ""
    problem: StudioError | None = None
    before: tuple[dict[str, Any], ...] = ()


class Conversation:
    """Turns, the messages behind them, and the thread that extends both."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.busy = False
        self._messages: list[dict[str, Any]] = []
        self._cancel = threading.Event()
        self._changed = threading.Condition()
        self._version = 0

    def ask(self, question: str, *, port: int, tools: Sequence[str]) -> bool:
        """Begin a turn; False while another one runs."""
        with self._changed:
            if self.busy:
                return False
            self.busy = True
            self._cancel = threading.Event()
            turn = Turn(question, before=tuple(self._messages))
            self.turns.append(turn)
        arguments = (turn, port, list(tools), self._cancel)
        threading.Thread(target=self._run, args=arguments, daemon=True, name="turn").start()
        self._notify()
        return True

    def stop(self) -> None:
        """End the turn that runs; what it has said stays."""
        self._cancel.set()

    def take_back(self) -> str | None:
        """Remove the last turn and give its question back; None while a turn runs or where there is none."""
        with self._changed:
            if self.busy or not self.turns:
                return None
            turn = self.turns.pop()
            self._messages = list(turn.before)
        self._notify()
        return turn.question

    def clear(self) -> None:
        """Forget everything; a turn that runs is ended first."""
        self._cancel.set()
        with self._changed:
            self._changed.wait_for(lambda: not self.busy, timeout=5)
            if not self.busy:
                self.turns, self._messages = [], []
        self._notify()

    def follow(self, every: float = 0.08) -> Iterator[None]:
        """Yield whenever something changed, at most once in `every` seconds, until the turn has ended."""
        seen = -1
        while True:
            with self._changed:
                if self.busy and self._version == seen:
                    self._changed.wait(timeout=1.0)
                seen, going = self._version, self.busy
            yield
            if not going:
                return
            self._cancel.wait(every)

    def _run(self, turn: Turn, port: int, tools: list[str], cancel: threading.Event) -> None:
        try:
            asked = [*turn.before, {"role": "user", "content": turn.question}]
            for event in converse(port, asked, tools, cancel=cancel):
                self._take(turn, event)
                self._notify()
        except StudioError as error:
            turn.problem = error
        except Exception:
            # A turn that breaks must free the composer and say so.
            log.exception("The turn broke")
            turn.problem = StudioError("ui.broken")
        finally:
            with self._changed:
                self.busy = False
            self._notify()

    def _take(self, turn: Turn, event: Any) -> None:
        if isinstance(event, TextPart):
            if turn.parts and isinstance(turn.parts[-1], str):
                turn.parts[-1] += event.text
            else:
                turn.parts.append(event.text)
        elif isinstance(event, CallStarted):
            turn.parts.append(Call(event.id, event.name, event.arguments))
        elif isinstance(event, CallEnded):
            for part in turn.parts:
                if isinstance(part, Call) and part.id == event.id:
                    part.content, part.seconds, part.failed = event.content, event.seconds, event.failed
        elif isinstance(event, Finished):
            turn.tokens, turn.seconds, turn.reason = event.tokens, event.seconds, event.reason
            if event.messages:
                # A question that nothing answered is not carried on: two questions in a row confuse a model.
                self._messages = [*turn.before, {"role": "user", "content": turn.question}, *event.messages]

    def _notify(self) -> None:
        with self._changed:
            self._version += 1
            self._changed.notify_all()


CONVERSATION = Conversation()
