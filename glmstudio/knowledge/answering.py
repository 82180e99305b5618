"""All questions of a file to base and tuned, side by side: a job that goes on where it was.

    state/answers/<key>/
        about.json        the file, who is asked, and how
        questions.json    line, question, answer of the file, and key of each
        ...               as in `knowledge.asking`

The key names the file's path, who is asked, and how: a file that grew asks only what is new.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.chat.available_tools import run_behind
from glmstudio.families.message import Message, tools_message
from glmstudio.files import read_json, read_table, whole_text, write_json
from glmstudio.knowledge.answer_table import Row
from glmstudio.knowledge.asking import Asking, AskingProgress, ModelAnswer, ModelUnderTest, QuestionToAsk
from glmstudio.knowledge.materials import prompt_tools
from glmstudio.knowledge.parts import not_beside_a_run, parts_of
from glmstudio.knowledge.question_file import FileQuestion, read_questions
from glmstudio.knowledge.result import BASE, TUNED
from glmstudio.models import ready_model
from glmstudio.paths import paths

LIMIT = 512  # tokens of an answer
_KEPT = 20  # jobs


@dataclass(frozen=True)
class Answering:
    """One job. `opening` is what the model reads before each question: the tools, where they are offered."""

    file: Path
    parts: tuple[ModelUnderTest, ...]
    questions: tuple[FileQuestion, ...]
    opening: tuple[Message, ...]
    limit: int
    asking: Asking

    @classmethod
    def of(
        cls, file: Path, model: str, adapter: str = "", *, tools: bool | None = None, limit: int = LIMIT
    ) -> Answering:
        """The questions of a file to a model and what was learned on it (a run's name or a folder; "" for the base
        alone), with `tools` in the prompt or without; None takes the form in which the run was trained. Raises
        StudioError."""
        questions = read_questions(file)
        run = run_behind(model, adapter)
        parts = parts_of(model, adapter, run)
        wanted = bool(run and run.learned_tools) if tools is None else tools
        opening = (tools_message(prompt_tools(ready_model(parts[0].model))),) if wanted else ()
        before = [each.content + each.tools for each in opening]
        named = [str(file.resolve()), [part.mark for part in parts], before, limit]
        place = paths().state / "answers" / _hash(named)[:20]
        return cls(file, parts, tuple(questions), opening, limit, Asking(place))

    def start(self) -> None:
        """Begin, or go on where it was. Raises StudioError where a run holds the GPU."""
        not_beside_a_run()
        keys = [
            _hash([*(said.to_json() for said in (*self.opening, *each.before)), each.question])[:24]
            for each in self.questions
        ]
        asked = {
            key: QuestionToAsk(key, (*each.before, Message("user", each.question)))
            for key, each in zip(keys, self.questions, strict=True)
        }
        place = self.asking.place
        rows = [[each.line, each.question, each.expected, key] for key, each in zip(keys, self.questions, strict=True)]
        write_json(place / "questions.json", rows)
        write_json(place / "about.json", {"file": str(self.file), "tuned": len(self.parts) > 1, "created": time.time()})
        _forget_old(place)
        self.asking.start(self.parts, list(asked.values()), opening=self.opening, limit=self.limit)

    def run(self, tell: Callable[[AskingProgress], None]) -> list[Row]:
        """Ask everything and wait for it; `tell` hears how far it is. Raises StudioError; what was answered is kept."""
        try:
            while True:
                self.start()
                while (look := self.asking.look()).running:
                    tell(look)
                    time.sleep(0.2)
                tell(look)
                if look.problem:
                    raise look.problem
                if look.whole and _is_whole(self.asking.place, self.parts):  # not only an earlier state of the file
                    return rows_of(self.asking.place)
        except BaseException:
            self.asking.cancel()
            raise


def jobs() -> list[Path]:
    """The folders of all jobs that are kept, the newest first."""
    found = [each for each in (paths().state / "answers").glob("*") if (each / "about.json").is_file()]
    return sorted(found, key=lambda each: (each / "about.json").stat().st_mtime, reverse=True)


def about_of(place: Path) -> dict[str, Any]:
    """The file of a job, and whether a tuned model was asked, too."""
    return read_table(place / "about.json")


def rows_of(place: Path) -> list[Row]:
    """The table as far as it is, a row for each question of the file."""
    said = Asking(place).answers()
    rows = []
    for line, question, expected, key in read_json(place / "questions.json", []):
        answers = {who: said.get((who, key)) for who in (BASE, TUNED)}
        cut = [who for who, answer in answers.items() if answer is not None and not answer.ended]
        row = {"line": line, "question": question, "expected": expected}
        rows.append(row | {who: _written(answer) for who, answer in answers.items()} | {"unfinished": ", ".join(cut)})
    return rows


def _written(answer: ModelAnswer | None) -> str:
    """An answer as people read it; a call of a tool has the tool's name on its first line."""
    if answer is None:
        return ""
    name, _, text = answer.text.partition("\n")
    return whole_text(f"{name.strip()}\n{text.strip()}".strip())


def _is_whole(place: Path, parts: Sequence[ModelUnderTest]) -> bool:
    keys = {row[3] for row in read_json(place / "questions.json", [])}
    return {(part.who, key) for part in parts for key in keys} <= set(Asking(place).answers())


def _forget_old(own: Path) -> None:
    """Jobs before the newest few go away, unless they are at work."""
    for each in jobs()[_KEPT:]:
        if each != own and not Asking(each).look().running:
            shutil.rmtree(each, ignore_errors=True)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
