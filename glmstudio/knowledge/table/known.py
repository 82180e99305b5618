"""What the model knows before it is trained: each question of the table is asked once, and the answers are kept."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.knowledge.asking import Asking, ModelUnderTest, QuestionToAsk
from glmstudio.knowledge.exam import Question
from glmstudio.knowledge.result import BASE
from glmstudio.knowledge.table.fact_table import Row, Table
from glmstudio.knowledge.table.row_faults import learned_rows
from glmstudio.models.library import Model
from glmstudio.paths import paths
from glmstudio.rundir.occupancy import chat_device, run_on


def asking(model: Model) -> Asking:
    """Where the answers of this model are kept."""
    return Asking(paths().state / "asked" / hashlib.sha256(str(model.path).encode()).hexdigest()[:16])


def ask(model: Model, table: Table) -> None:
    """Ask the model every question of the table that it was not asked before. Raises StudioError where there is none,
    and where a run holds the card."""
    questions = [question for row in learned_rows(table) if (question := _question(row))]
    if not questions:
        raise StudioError("knowledge.table_empty")
    if run := run_on(chat_device()):
        raise StudioError("knowledge.busy", name=run.name)
    asking(model).start(
        [ModelUnderTest(BASE, str(model.path))],
        list({each.key: QuestionToAsk(each.key, each.messages) for each in questions}.values()),
    )


def answers(model: Model, table: Table) -> dict[int, tuple[str, bool]]:
    """By a row's number, what the model said and whether that is right; nothing for rows it was not asked about."""
    place = asking(model).place
    return _answers(table, place, _mark(place))


@lru_cache(2)
def _answers(table: Table, place: Path, mark: tuple[int, ...]) -> dict[int, tuple[str, bool]]:
    said, found = _said(place, mark), dict[int, tuple[str, bool]]()
    for row in table.rows if said else ():
        question = _question(row)
        if question is not None and (text := said.get(question.key)) is not None:
            found[row.number] = text.strip(), _is_right(question, text)
    return found


@lru_cache(20_000)
def _is_right(question: Question, text: str) -> bool:
    return question.is_right(text)


def _question(row: Row) -> Question | None:
    fact = row.fact
    return Question("learned", fact.question, fact.answer, fact.keywords) if fact else None


def _mark(place: Path) -> tuple[int, ...]:
    """Another value once there is another answer."""
    found: list[int] = []
    for name in ("work.json", "answers.jsonl"):
        try:
            about = (place / name).stat()
        except OSError:
            continue
        found += [about.st_mtime_ns, about.st_size]
    return tuple(found)


@lru_cache(2)
def _said(place: Path, _: tuple[int, ...]) -> dict[str, str]:
    return {key: said.text for (who, key), said in Asking(place).answers().items() if who == BASE}
