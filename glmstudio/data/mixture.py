"""What is learned besides the user's own records: facts once more with tools in the prompt, and general records.

A fact is asked in both forms later, so it is learned in both. General records (rehearsal) keep what the model could do.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from glmstudio.data.faults import ExaminedRecord, examine
from glmstudio.data.formats import Fault, ParsedConversation, conversations, read_entry
from glmstudio.data.formats.facts import FactConflicts
from glmstudio.data.formats.wording import conversation
from glmstudio.data.prepared import sum_of
from glmstudio.data.readers.sources import Moved, source_files
from glmstudio.data.readers.values import Placed, read_values
from glmstudio.errors import StudioError

REHEARSAL = "rehearsal"
_ALL_TOOLS = 0.4  # of the prompts with tools list all, as a chat does; the others a few


@dataclass(frozen=True)
class Mixture:
    """`facts_with_tools` and `rehearsal` are shares: of a fact's conversations, and of all conversations. A fact
    becomes at least `facts_repeat` conversations, whatever its number of wordings. `tools` are the schemas that a
    prompt may list, `file` holds the general records."""

    facts_with_tools: float = 0.0
    facts_repeat: int = 1
    rehearsal: float = 0.0
    tools: tuple[dict[str, Any], ...] = ()
    file: str = ""

    @property
    def mark(self) -> str:
        """Another text for anything that changes what is mixed in, on every machine the same; "" for nothing."""
        if not self.facts_with_tools and not self.rehearsal and self.facts_repeat == 1:
            return ""
        text = json.dumps(asdict(self) | {"file": ""}, sort_keys=True)  # what it holds counts, not where it lies
        rehearsed = sum_of(Path(self.file)) if self.rehearsal else ""
        return hashlib.sha256((text + rehearsed).encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> Mixture:
        """What `to_json` wrote."""
        given = json.loads(text)
        return cls(**given | {"tools": tuple(given["tools"])})

    def to_json(self) -> str:
        """As one text, for another process."""
        return json.dumps(asdict(self))


PLAIN = Mixture()


Cut = Callable[[Iterable[Placed]], Iterator[Placed]]


def read_examined(
    path: str | Path, moved: Moved | None = None, mixture: Mixture = PLAIN, cut: Cut = iter
) -> Iterator[tuple[Path, int, ExaminedRecord]]:
    """Every record of a file or folder, examined by itself, then what is mixed in. `moved` hears how many bytes were
    read; `cut` puts pieces in the place of a document."""
    known, forms, usable = FactConflicts(), _PromptForms(mixture), 0
    for file in source_files(path):
        for line, value in cut(read_values(file, moved)):
            column = getattr(value, "nameless", 0)
            noted = (("nameless_column", str(column)),) if column else ()
            form, entry = ("", iter([value])) if isinstance(value, StudioError) else read_entry(value)
            for found in entry:
                wrong = (
                    known.contradiction(found, line) if isinstance(found, ParsedConversation) and found.fact else None
                )
                for examined in forms.of(wrong or found):
                    usable += examined.mended is not None
                    yield file, line, replace(examined, form=form, notes=(*examined.notes, *noted))
    if mixture.rehearsal and usable:
        count = round(usable * mixture.rehearsal / (1 - mixture.rehearsal))
        for line, examined in islice(cycle(_rehearsed(Path(mixture.file))), count):
            yield Path(mixture.file), line, examined


def _rehearsed(file: Path) -> Sequence[tuple[int, ExaminedRecord]]:
    """The general records, examined, in an order of their own."""
    found = [
        (line, replace(examine(each), form=REHEARSAL, extra=True))
        for line, value in read_values(file)
        if not isinstance(value, StudioError)
        for each in conversations(value)
        if isinstance(each, ParsedConversation)
    ]
    random.Random(0).shuffle(found)
    return [(line, examined) for line, examined in found if examined.mended is not None]


class _PromptForms:
    """The prompts in which a conversation is learned: as it stands, and for a fact also with tools."""

    def __init__(self, mixture: Mixture) -> None:
        share = mixture.facts_with_tools if mixture.tools else 0.0
        self._more = share / (1 - share)  # conversations with tools for each one without
        self._least = mixture.facts_repeat
        self._tools = list(mixture.tools)
        self._random = random.Random(0)
        self._seen = 0

    def of(self, found: ParsedConversation | StudioError) -> Iterator[ExaminedRecord]:
        """All of them, examined."""
        if isinstance(found, StudioError):
            yield ExaminedRecord(None, (Fault(found),))
            return
        yield (plain := examine(found))
        if not found.fact:
            return
        place, wordings = found.fact
        plain_ones = max(wordings, math.ceil(self._least / (1 + self._more) - 1e-9))  # of the whole fact
        times = plain_ones // wordings + (place < plain_ones % wordings)
        yield from (replace(plain, extra=True, notes=()) for _ in range(times - 1))
        before, self._seen = self._seen, self._seen + times
        for _ in range(int(self._seen * self._more + 1e-9) - int(before * self._more + 1e-9)):
            yield replace(examine(conversation(found.record["conversations"], self._listed())), extra=True)

    def _listed(self) -> list[dict[str, Any]]:
        if self._random.random() < _ALL_TOOLS:
            return self._tools
        return self._random.sample(self._tools, self._random.randint(1, min(4, len(self._tools))))
