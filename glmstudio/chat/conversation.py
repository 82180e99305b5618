"""A conversation as a person keeps it: turns that branch where a question was asked again, with all that came of them.

`Turn.parent` makes a tree: asking again, or another question in the same place, adds a sibling, and nothing is lost.
A turn has one answer, or two where two models were compared.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from glmstudio.chat.sampling import LIMITS, PRESETS, Sampling
from glmstudio.errors import StudioError

T = TypeVar("T")
FORMAT = "glmstudio-chat-1"
LONGEST_TITLE = 60
MOST_TURNS = 5000
_LATEST = 253_402_300_800.0  # seconds: the year 10000, of which no clock tells
_NAME = re.compile(r"[0-9a-z-]{1,64}")
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "bool | None": (bool, type(None)),
    "int": (int,),
    "float": (int, float),
    "dict[str, Any]": (dict,),
}


@dataclass
class Call:
    """A tool call. `state` is asked, running, done, failed, wrong, refused or answered."""

    id: str
    name: str
    arguments: dict[str, Any]
    state: str = "running"
    content: str | None = None
    seconds: float = 0.0
    stopped: StudioError | None = None


@dataclass
class Answer:
    """What one model said to a question: text and calls in order, and the messages behind them (OpenAI's form)."""

    model: str
    loaded: str = ""  # what was really loaded: the fingerprint of the tensors in use
    parts: list[str | Call] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)  # as they were offered
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    first_token: float = 0.0
    seconds: float = 0.0
    reason: str = ""  # "" while it is being written, or where the studio ended meanwhile
    problem: StudioError | None = None
    about: dict[str, Any] = field(default_factory=dict)  # what the server said of `loaded`, for when it is gone


@dataclass
class Turn:
    """A question and its answers."""

    id: str
    parent: str | None
    question: str
    seed: int | None = None
    answers: list[Answer] = field(default_factory=list)


@dataclass
class ChatSettings:
    """How a conversation is held. `tools`: whether they are offered; None, as the model that is asked was trained."""

    system: str = ""
    tools: bool | None = None
    preset: str = "precise"
    sampling: Sampling = PRESETS["precise"]


@dataclass
class Conversation:
    """All turns, and `tip`, the last one of the branch that is looked at."""

    id: str = field(default_factory=lambda: f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}")
    title: str = ""
    pinned: bool = False
    changed: float = field(default_factory=time.time)
    settings: ChatSettings = field(default_factory=ChatSettings)
    turns: dict[str, Turn] = field(default_factory=dict)
    tip: str | None = None

    def branch(self) -> list[Turn]:
        """The turns from the first one to the tip."""
        return self.until(self.tip)

    def until(self, last: str | None) -> list[Turn]:
        """The turns from the first one to `last`."""
        found: list[Turn] = []
        while last is not None:
            found.append(self.turns[last])
            last = self.turns[last].parent
        return found[::-1]

    def ask(self, question: str, parent: str | None, seed: int | None = None, name: str = "") -> Turn:
        """A new turn after `parent`, looked at from now on; its id is `name` where no other one has it."""
        free = name if name and name not in self.turns else uuid.uuid4().hex[:12]
        turn = Turn(free, parent, question, seed)
        self.turns[turn.id] = turn
        self.tip = turn.id
        self.title = self.title or " ".join(question.split())[:LONGEST_TITLE]
        self.changed = time.time()
        return turn

    def siblings(self, turn: Turn) -> list[Turn]:
        """All turns in this turn's place, itself too, in the order in which they were asked."""
        return [each for each in self.turns.values() if each.parent == turn.parent]

    def look_at(self, turn: Turn) -> None:
        """Follow the branch of `turn`, at each fork to what was asked last."""
        while later := [each for each in self.turns.values() if each.parent == turn.id]:
            turn = later[-1]
        self.tip = turn.id

    def messages(self, last: str | None, side: int = 0) -> list[dict[str, Any]]:
        """The messages up to and with turn `last`, in OpenAI's form. `side` 1 follows the second answers."""
        found: list[dict[str, Any]] = []
        if self.settings.system.strip():
            found.append({"role": "system", "content": self.settings.system})
        for turn in self.until(last):
            answer = turn.answers[min(side, len(turn.answers) - 1)] if turn.answers else None
            # A question that nothing answered is not carried on: two questions in a row confuse a model.
            if answer and answer.messages:
                found += [{"role": "user", "content": turn.question}, *answer.messages]
        return found

    def to_json(self) -> dict[str, Any]:
        """For a file; `from_json` reads it back."""
        return {"format": FORMAT} | _plain(asdict(self))


def from_json(value: Any) -> Conversation:
    """The conversation in JSON of `to_json`, which may come from anywhere. Raises StudioError."""
    try:
        if value["format"] != FORMAT or len(value["turns"]) > MOST_TURNS:
            raise ValueError(value["format"])
        dialogue = _made(Conversation, value | {"settings": _settings(value["settings"])})
        dialogue.turns = {str(name): _turn(str(name), each) for name, each in value["turns"].items()}
        if not _NAME.fullmatch(dialogue.id) or not _is_tree(dialogue) or not 0 <= dialogue.changed < _LATEST:
            raise ValueError(dialogue.id)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudioError("chat.no_dialogue") from error
    return dialogue


def _is_tree(dialogue: Conversation) -> bool:
    """Whether every turn leads back to a beginning: a loop in a foreign file would never end."""
    sound: set[str | None] = {None}
    for start in [dialogue.tip, *dialogue.turns]:
        path: set[str | None] = set()
        at = start
        while at not in sound:
            if at in path or at not in dialogue.turns:
                return False
            path.add(at)
            at = dialogue.turns[str(at)].parent
        sound.update(path)
    return True


def _settings(value: dict[str, Any]) -> ChatSettings:
    sampling = _made(Sampling, value["sampling"])
    for name, (least, most) in LIMITS.items():
        number = getattr(sampling, name)
        if not least <= (0 if number is None and name == "seed" else number) <= most:
            raise ValueError(name)
    return _made(ChatSettings, value | {"sampling": sampling})


def _turn(name: str, value: dict[str, Any]) -> Turn:
    turn = _made(Turn, value | {"id": name, "answers": [_answer(each) for each in value["answers"]][:2]})
    if not isinstance(turn.parent, (str, type(None))):
        raise TypeError(name)
    return turn


def _answer(value: dict[str, Any]) -> Answer:
    parts = [part if isinstance(part, str) else _made(Call, _with_problem(part, "stopped")) for part in value["parts"]]
    lists = {name: [dict(each) for each in value.get(name, ())] for name in ("messages", "tools")}
    return _made(Answer, _with_problem(value, "problem") | {"parts": parts} | lists)


def _with_problem(value: dict[str, Any], name: str) -> dict[str, Any]:
    """The value with the error in `name` as one; an error that this version has no words for is left out."""
    problem = None
    if value.get(name):
        try:
            problem = StudioError.from_json(value[name])
            str(problem)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            problem = None
    return value | {name: problem}


def _made(kind: type[T], value: dict[str, Any]) -> T:
    """An object of the fields that it has; text, numbers and switches must be of their kind."""
    named: dict[str, Any] = {}
    for each in fields(kind):  # type: ignore[arg-type]
        if each.name not in value:
            continue
        given = value[each.name]
        wanted = _KINDS.get(str(each.type))
        if wanted and (not isinstance(given, wanted) or (isinstance(given, bool) and bool not in wanted)):
            raise TypeError(each.name)
        named[each.name] = given
    return kind(**named)


def _plain(value: Any) -> Any:
    """The value with problems as JSON."""
    if isinstance(value, StudioError):
        return value.to_json()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def calls_of(answer: Answer) -> Iterator[Call]:
    """The calls of an answer."""
    return (part for part in answer.parts if isinstance(part, Call))
