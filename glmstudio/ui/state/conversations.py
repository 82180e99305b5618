"""Open conversations: each goes on while the page is reloaded, and is saved after every step."""

from __future__ import annotations

import logging
import queue
import random
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from glmstudio.chat import history
from glmstudio.chat.available_tools import asked_with_tools, offered
from glmstudio.chat.conversation import Answer, Call, Conversation, Turn, calls_of
from glmstudio.chat.loop import (
    CallEnded,
    CallStarted,
    ChatRequest,
    Decision,
    Finished,
    Measured,
    TextPart,
    Waiting,
    converse,
)
from glmstudio.chat.model_server import ModelServer
from glmstudio.errors import StudioError
from glmstudio.tools.permissions import permission
from glmstudio.tools.tool import Tool

log = logging.getLogger(__name__)

_MOST_KEPT = 30
_MARKS = 60
_MOST_WAITING = 20  # questions that a conversation holds until the answer before is there


@dataclass(frozen=True)
class WaitingQuestion:
    """A question that was sent while another one is answered; the browser knows it by its `mark`."""

    mark: str
    question: str
    adapters: tuple[str, ...]


class OpenConversation:
    """A conversation and the threads that write its answers."""

    def __init__(self, conversation: Conversation, changed: threading.Condition) -> None:
        self.conversation = conversation
        self.before: dict[int, int] = {}  # by answer: how many others the model serves first
        self.forgotten = False
        self.waiting: list[WaitingQuestion] = []
        self._changed = changed
        self._going: list[Answer] = []
        self._cancel = threading.Event()
        self._asked: dict[str, queue.Queue[Decision]] = {}

    @property
    def busy(self) -> bool:
        """Whether an answer is being written."""
        return bool(self._going)

    def is_going(self, answer: Answer) -> bool:
        """Whether this answer is being written."""
        return any(each is answer for each in self._going)

    def ask(self, question: str, adapters: Sequence[str], port: int, parent: str | None, mark: str = "") -> None:
        """Ask the loaded model with each of the `adapters` ("" is the base), side by side. Where it is busy, the
        question waits, and is asked after what is there then. What has the `mark` of an earlier one is that one.

        Raises StudioError where too many wait.
        """
        with self._changed:
            if mark and (mark in CONVERSATIONS.asked or any(each.mark == mark for each in self.waiting)):
                return
            if self.busy:
                if len(self.waiting) >= _MOST_WAITING:
                    raise StudioError("ui.chat.too_many_waiting", most=_MOST_WAITING)
                self.waiting.append(WaitingQuestion(mark or uuid.uuid4().hex[:12], question, tuple(adapters)))
                self._notify()
                return
            if mark:
                CONVERSATIONS.asked.append(mark)
            self._cancel = threading.Event()
            sampling = self.conversation.settings.sampling
            seed = sampling.seed
            if seed is None and len(adapters) > 1:
                seed = random.randrange(2**31)  # two models are compared under the same luck
            turn = self.conversation.ask(question, parent, seed, mark)
            turn.answers = [Answer(adapter) for adapter in adapters]
            self._going = [*turn.answers]
        self.keep()
        for side, answer in enumerate(turn.answers):
            arguments = (turn, side, answer, port)
            threading.Thread(target=self._run, args=arguments, daemon=True, name="answer").start()
        self._notify()

    def stop(self) -> None:
        """Stop the answers that are being written; their text stays."""
        self._cancel.set()

    def take_back(self, mark: str = "") -> None:
        """Do not ask a question that waits, or any of them: the browser puts its text back into the box."""
        with self._changed:
            CONVERSATIONS.returned.extend(each.mark for each in self.waiting if mark in ("", each.mark))
            self.waiting = [each for each in self.waiting if mark not in ("", each.mark)]
        self._notify()

    def _ask_next(self) -> None:
        """Ask what has waited longest, if nothing is being answered."""
        if not self.waiting:
            return
        port = ModelServer.current().port
        with self._changed:
            if self.busy or not self.waiting or self.forgotten:
                return
            first = self.waiting.pop(0)
            self.ask(first.question, first.adapters, port, self.conversation.tip, first.mark)

    def keep(self) -> None:
        """Save the conversation, unless it is empty."""
        if not self.conversation.turns:
            return
        try:
            with self._changed:
                if not self.forgotten:
                    history.write(self.conversation)
        except OSError as error:
            log.warning("A conversation could not be kept: %s", error)
            for answer in self._going:
                answer.problem = StudioError("ui.chat.not_kept", reason=error.strerror or str(error))

    def decide(self, call: str, decision: Decision) -> None:
        """Decide on a tool call that waits for approval."""
        if (waiting := self._asked.pop(call, None)) is not None:
            waiting.put(decision)

    def _run(self, turn: Turn, side: int, answer: Answer, port: int) -> None:
        try:
            asked = self._asking(turn, side, answer, port)
            for event in converse(asked, decide=self._judge, cancel=self._cancel):
                self._take(answer, event)
                self._notify()
        except StudioError as error:
            answer.problem = error
        except Exception:
            # An answer that breaks must free the composer and say so.
            log.exception("An answer broke")
            answer.problem = StudioError("ui.broken")
        finally:
            self.keep()
            with self._changed:
                self._going = [each for each in self._going if each is not answer]
                self.before.pop(id(answer), None)
            self._ask_next()
            self._notify()

    def _asking(self, turn: Turn, side: int, answer: Answer, port: int) -> ChatRequest:
        name = ModelServer.add(answer.model) if answer.model else ""
        base, *adapters = ModelServer.loaded()
        model = next((each for each in adapters if each.id == name), base)
        answer.about = asdict(model)
        settings = self.conversation.settings
        loaded, asked = ModelServer.current().model, turn.answers[-1].model  # of two, both are asked as the chosen one
        wanted = asked_with_tools(loaded, asked) if settings.tools is None else settings.tools
        tools = offered(loaded) if wanted else []
        answer.tools = [tool.schema for tool in tools]
        messages = self.conversation.messages(turn.parent, side)
        messages.append({"role": "user", "content": turn.question})
        sampling = replace(settings.sampling, seed=turn.seed)
        return ChatRequest(port, model.id, messages, tools, sampling, ModelServer.key())

    def _judge(self, call: CallStarted, tool: Tool) -> Decision:
        """Run tools that are always allowed, and wait for approval of the others."""
        if permission(tool) == "always":
            return Decision("run")
        waiting: queue.Queue[Decision] = queue.Queue()
        self._asked[call.id] = waiting
        self._mark(call.id, "asked")
        while not self._cancel.is_set():
            try:
                decision = waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            self._mark(call.id, "running")
            return decision
        return Decision("refuse")

    def _mark(self, call: str, state: str) -> None:
        for answer in self._going:
            for each in calls_of(answer):
                if each.id == call and each.content is None:
                    each.state = state
        self._notify()

    def _take(self, answer: Answer, event: Any) -> None:
        self.before.pop(id(answer), None)
        if isinstance(event, Waiting):
            self.before[id(answer)] = event.before
        elif isinstance(event, TextPart):
            if answer.parts and isinstance(answer.parts[-1], str):
                answer.parts[-1] += event.text
            else:
                answer.parts.append(event.text)
        elif isinstance(event, CallStarted):
            answer.parts.append(Call(event.id, event.name, event.arguments))
            self.keep()
        elif isinstance(event, CallEnded):
            for each in calls_of(answer):
                if each.id == event.id:
                    each.content, each.seconds, each.stopped = event.content, event.seconds, event.stopped
                    each.state = event.how
            self.keep()
        elif isinstance(event, Measured):
            answer.first_token = answer.first_token or event.first_token
            answer.prompt_tokens, answer.cached_tokens = event.prompt_tokens, event.cached_tokens
            answer.tokens += event.tokens
            answer.seconds += event.seconds
            answer.loaded = event.fingerprint
        elif isinstance(event, Finished):
            answer.messages, answer.reason = event.messages, event.reason

    def _notify(self) -> None:
        with self._changed:
            CONVERSATIONS.version += 1
            self._changed.notify_all()


class OpenConversations:
    """All open conversations."""

    def __init__(self) -> None:
        self.version = 0
        self.asked: deque[str] = deque(maxlen=_MARKS)  # marks of questions that are in a conversation
        self.returned: deque[str] = deque(maxlen=_MARKS)  # and of those that waited and were taken back
        self._open: OrderedDict[str, OpenConversation] = OrderedDict()
        self._blank: OpenConversation | None = None
        self._changed = threading.Condition(threading.RLock())

    def get(self, name: str) -> OpenConversation:
        """The conversation of that name. Raises StudioError where there is none."""
        with self._changed:
            if name not in self._open:
                self._add(history.read(name))
            self._open.move_to_end(name)
            return self._open[name]

    def fresh(self, like: Conversation | None = None) -> OpenConversation:
        """A new conversation with the settings of another one; it is saved with its first turn."""
        conversation = Conversation()
        if like is not None:
            conversation.settings = replace(like.settings)
        with self._changed:
            return self._add(conversation)

    def blank(self) -> OpenConversation:
        """The conversation that is shown where there is none."""
        with self._changed:
            if self._blank is None or self._blank.conversation.turns or self._blank.forgotten:
                self._blank = self.fresh()
            return self._blank

    def forget(self, name: str) -> None:
        """Delete a conversation, here and on disk; one at work is ended first."""
        with self._changed:
            opened = self._open.pop(name, None)
            if opened is not None:
                opened.take_back()
                opened.forgotten = True
                opened.stop()
        history.delete(name)

    def stop_all(self) -> None:
        """Stop every answer: the model is about to be unloaded. What waits goes back into the box."""
        for opened in [*self._open.values()]:
            opened.take_back()
            opened.stop()

    def waiting(self) -> list[str]:
        """The marks of all questions that wait."""
        return [each.mark for opened in [*self._open.values()] for each in [*opened.waiting]]

    def follow(self, every: float = 0.08) -> Iterator[None]:
        """Yield whenever something changed, at most once in `every` seconds, until no answer is being written."""
        seen = -1
        while True:
            with self._changed:
                going = any(opened.busy or opened.waiting for opened in self._open.values())
                if going and self.version == seen:
                    self._changed.wait(timeout=1.0)
                seen = self.version
            yield
            if not going:
                return
            threading.Event().wait(every)

    def _add(self, conversation: Conversation) -> OpenConversation:
        opened = self._open[conversation.id] = OpenConversation(conversation, self._changed)
        for name in [*self._open]:
            if len(self._open) > _MOST_KEPT and not self._open[name].busy and name != conversation.id:
                del self._open[name]
        return opened


CONVERSATIONS = OpenConversations()
