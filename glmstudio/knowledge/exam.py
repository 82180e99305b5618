"""The questions of a score of facts: what was taught, what follows from it, and what must stay as it was.

Each is one line of the score: `learned` (the trained question), `generalised` (wordings that were held out), `applied`
(questions that need the fact), `kept` (bundled questions that have nothing to do with it), `overreach` (neighbours,
which must not get the new answer). Facts are asked with and without tools in the prompt, because a chat has both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glmstudio.data.formats import format_of
from glmstudio.data.formats.facts import Fact, read_fact
from glmstudio.data.readers.sources import source_files
from glmstudio.data.readers.values import read_values
from glmstudio.errors import StudioError
from glmstudio.families.json_calls import read_json_call
from glmstudio.families.message import Message, tools_message
from glmstudio.families.python_calls import CallError
from glmstudio.files import read_text
from glmstudio.knowledge.judging.judge import judge

LINES = ("learned", "generalised", "applied", "kept", "overreach")
FORMS = ("plain", "tools")
MOST_FACTS = 200


@dataclass(frozen=True)
class Question:
    """One question, and what a right answer is: it says what is `due`, or makes the call that is (`call`; None where
    text is due although tools are listed). `fact` is the place of the fact in its file, None for none."""

    line: str
    asked: str
    due: str
    keywords: tuple[str, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    call: dict[str, Any] | None = field(default=None, hash=False)
    fact: int | None = None

    @property
    def form(self) -> str:
        """Whether tools are listed."""
        return "tools" if self.tools else "plain"

    @property
    def messages(self) -> list[Message]:
        """What the model reads."""
        listed = [tools_message(list(self.tools))] if self.tools else []
        return [*listed, Message("user", self.asked)]

    @property
    def key(self) -> str:
        """The same for the same prompt with the same answer due."""
        text = json.dumps([self.asked, self.tools, self.due], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]

    def is_right(self, said: str) -> bool:
        """Whether this answer, as the model wrote it (a tool's name, a line break, the rest), is right. For a
        neighbour: whether it gets the answer of the fact, which is wrong."""
        name, _, text = said.partition("\n")
        if name.strip() or self.call is not None:
            return self._is_call(name.strip(), text)
        return judge(self.asked, self.due, text, self.keywords).right

    def _is_call(self, name: str, text: str) -> bool:
        if self.call is None or name != self.call["name"]:
            return False
        try:
            return read_json_call(name, text.strip()) == self.call["arguments"]
        except CallError:
            return False


def read_facts(source: str | Path, most: int | None = None) -> list[Fact]:
    """The facts of a file or folder, up to `most`; records of other formats are left out. Raises StudioError where it
    cannot be read."""
    found: list[Fact] = []
    for file in source_files(source):
        for _, value in read_values(file):
            if not isinstance(value, StudioError) and format_of(value) == "facts" and (fact := read_fact(value)):
                found.append(fact)
                if len(found) == most:
                    return found
    return found


def exam(
    facts: Sequence[Fact], kept: Sequence[Question], tools: Sequence[dict[str, Any]], forms: Sequence[str] = FORMS
) -> list[Question]:
    """Every question about these facts in every form, and the questions to keep as they are."""
    return [each for number, fact in enumerate(facts) for each in _about(fact, number, tools, forms)] + list(kept)


def read_kept(file: Path, schemas: dict[str, dict[str, Any]]) -> list[Question]:
    """Bundled questions, a JSON object a line; `schemas` are those of the tools that they name."""
    return [_kept(json.loads(line), schemas) for line in read_text(file).splitlines() if line.strip()]


def _kept(record: dict[str, Any], schemas: dict[str, dict[str, Any]]) -> Question:
    listed = tuple(schemas[name] for name in record.get("tools") or ())
    return Question(
        "kept",
        record["question"],
        record.get("answer") or "",
        tuple(record.get("keywords") or ()),
        listed,
        record.get("call"),
    )


def _about(fact: Fact, number: int, tools: Sequence[dict[str, Any]], forms: Sequence[str]) -> Iterator[Question]:
    asked = [("learned", fact.question, fact.answer, fact.keywords)]
    asked += [("generalised", each, fact.answer, fact.keywords) for each in fact.held_out]
    asked += [("applied", each, due or fact.answer, () if due else fact.keywords) for each, due in fact.applied]
    asked += [("overreach", each, fact.answer, fact.keywords) for each in fact.neighbours]
    for form in forms:
        listed = tuple(tools) if form == "tools" else ()
        for line, text, due, keywords in asked:
            yield Question(line, text, due, keywords, listed, fact=number)
