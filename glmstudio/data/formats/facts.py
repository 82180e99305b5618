"""Facts that a model is to learn: a question, its answer, and what is asked to see whether it was learned.

A row of a table or a JSON object with `question` and `answer` is one; EasyEdit's records (`prompt`, `target_new`) are
read as well. Of a fact with other wordings at least one is held out: it is never trained on, only asked.
"""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from glmstudio.data.formats.absent import is_absent
from glmstudio.data.formats.plain import normal_name
from glmstudio.data.formats.wording import ParsedConversation
from glmstudio.data.seen import SeenTable
from glmstudio.errors import StudioError

PAIRS = (
    ("question", "answer"),
    ("问题", "答案"),
    ("问题", "回答"),
    ("提问", "回答"),
    ("问", "答"),
    ("q", "a"),
    ("prompt", "target_new"),  # EasyEdit, CKnowEdit
)
COLUMNS = {
    "rephrase": ("rephrase", "rephrases", "rephrase_prompt", "paraphrase", "其他问法", "其它问法", "问法"),
    "apply_question": ("apply_question", "应用问题"),
    "apply_answer": ("apply_answer", "应用答案"),
    "neighbour": ("neighbour", "neighbor", "neighbours", "neighbors", "locality_prompt", "相邻问题"),
    "keywords": ("keywords", "keyword", "关键词", "关键字"),
}
_NAMES = {name: column for column, names in COLUMNS.items() for name in names}
_OTHER_TALK = ("history", "system")  # with these, it is a conversation
_NESTED = ("portability", "locality")
_HELD_OUT = 4  # of so many other wordings, one is held out


@dataclass(frozen=True)
class Fact:
    """One fact. `wordings` ask the same as `question`; `applied` are questions that need it, with their answers (""
    where nobody gave one); `neighbours` must not get its answer; `keywords` are what a right answer holds."""

    question: str
    answer: str
    wordings: tuple[str, ...] = ()
    applied: tuple[tuple[str, str], ...] = ()
    neighbours: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()

    @property
    def held_out(self) -> tuple[str, ...]:
        """The wordings that are never trained on; always the same ones, whatever their order."""
        drawn = sorted(self.wordings, key=lambda each: hashlib.sha256(f"{self.question}\0{each}".encode()).digest())
        kept = set(drawn[: -(-len(drawn) // _HELD_OUT)])
        return tuple(each for each in self.wordings if each in kept)

    @property
    def trained(self) -> tuple[str, ...]:
        """The question and the wordings that are trained on."""
        held = set(self.held_out)
        return (self.question, *(each for each in self.wordings if each not in held))

    def conversations(self) -> Iterator[ParsedConversation]:
        """What it becomes to be learned: one for each trained wording."""
        trained = self.trained
        for place, asked in enumerate(trained):
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": self.answer}]
            yield ParsedConversation({"conversations": turns}, fact=(place, len(trained)))

    def to_json(self) -> dict[str, Any]:
        """As a record of a facts file; empty columns are left out."""
        record = {
            "question": self.question,
            "answer": self.answer,
            "rephrase": list(self.wordings),
            "apply_question": [asked for asked, _ in self.applied],
            "apply_answer": [due for _, due in self.applied],
            "neighbour": list(self.neighbours),
            "keywords": list(self.keywords),
        }
        return {name: value for name, value in record.items() if value}


def is_fact(record: Any) -> bool:
    """Whether a record is a fact: it has one of the pairs, both plain values, and nothing of a longer conversation."""
    if not isinstance(record, dict):
        return False
    named = _named(record)
    pair = _pair(named)
    if pair is None or any(named.get(name) for name in _OTHER_TALK):
        return False
    return all(isinstance(named[name], (str, int, float, type(None))) for name in pair)


def several_of(name: str) -> bool:
    """Whether a table may have several columns of this name: their cells are values of one."""
    return _NAMES.get(normal_name(name)) is not None


def question_and_answer(record: dict[Any, Any]) -> tuple[Any, Any]:
    """Both as they stand in a record that `is_fact`."""
    named = _named(record)
    one, other = _pair(named) or PAIRS[0]
    return named.get(one), named.get(other)


def read_fact(record: dict[str, Any]) -> Fact | None:
    """The fact in a record that `is_fact`; None where its answer is empty. Raises StudioError where only the question
    is."""
    named = _named(record)
    question, answer = question_and_answer(record)
    if not _text(answer):
        return None
    if not _text(question):
        raise StudioError("data.fact_no_question")
    question, answer = str(question), str(answer)  # with the spaces that its author gave it
    columns = {column: list(_column(named, column)) for column in COLUMNS}
    nested = [list(_asked_inside(named.get(name))) for name in _NESTED]
    answers = columns["apply_answer"] + [""] * len(columns["apply_question"])
    asked = {same(question)}
    return Fact(
        question,
        answer,
        wordings=tuple(_fresh(columns["rephrase"], asked)),
        applied=(*zip(columns["apply_question"], answers, strict=False), *nested[0]),
        neighbours=tuple(_fresh([*columns["neighbour"], *(each for each, _ in nested[1])], asked)),
        keywords=tuple(part for each in columns["keywords"] for part in _parts(each, ";；、")),
    )


def same(text: str) -> str:
    """What two texts share that differ in width, case and spaces alone."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class FactConflicts:
    """The facts that came before, to know a question that comes again with another answer."""

    def __init__(self) -> None:
        self._seen, self._lines, self._said = SeenTable(), array("Q"), array("Q")

    def contradiction(self, found: ParsedConversation, line: int) -> StudioError | None:
        """The problem of a fact whose question was answered otherwise before; what is new is remembered."""
        asked, said = (_mark(same(turn["content"])) for turn in found.record["conversations"])
        first = self._seen.first(asked, len(self._lines))
        if first is None:
            self._lines.append(line)
            self._said.append(said)
            return None
        return None if said == self._said[first] else StudioError("data.fact_two_answers", line=self._lines[first])


def _mark(text: str) -> int:
    """The same for the same text, and in practice for no other."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _named(record: dict[Any, Any]) -> dict[str, Any]:
    return {normal_name(name): value for name, value in record.items() if isinstance(name, str)}


def _pair(named: dict[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if pair[0] in named and pair[1] in named), None)


def _column(named: dict[str, Any], column: str) -> Iterator[str]:
    """The values of a column: those of a list, and each line of a cell."""
    for name in COLUMNS[column]:
        value = named.get(name)
        for each in value if isinstance(value, list) else [value]:
            for line in _text(each).splitlines():
                if line.strip():
                    yield line.strip()


def _asked_inside(value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The questions and answers in EasyEdit's nested fields, however they are nested."""
    if depth > 5:
        return
    if isinstance(value, list):
        for each in value:
            yield from _asked_inside(each, depth + 1)
    if not isinstance(value, dict):
        return
    asked = value.get("prompt")
    if asked is None:
        for each in value.values():
            yield from _asked_inside(each, depth + 1)
        return
    due = next((value[name] for name in ("ground_truth", "answer", "target") if name in value), "")
    prompts, answers = (each if isinstance(each, list) else [each] for each in (asked, due))
    for number, prompt in enumerate(prompts):
        if text := _text(prompt):
            yield text, _text(_first(answers[number] if number < len(answers) else ""))


def _first(value: Any) -> Any:
    while isinstance(value, list):
        value = value[0] if value else ""
    return value


def _fresh(texts: Sequence[str], asked: set[str]) -> Iterator[str]:
    """Each text that was not asked before, whatever its width and case."""
    for each in texts:
        if (alike := same(each)) not in asked:
            asked.add(alike)
            yield each


def _parts(text: str, signs: str) -> Iterator[str]:
    for sign in signs[1:]:
        text = text.replace(sign, signs[0])
    yield from (part.strip() for part in text.split(signs[0]) if part.strip())


def _text(value: Any) -> str:
    """A plain value as text; anything else is none."""
    if isinstance(value, bool) or is_absent(value):
        return ""
    return str(value).strip() if isinstance(value, (str, int, float)) else ""
