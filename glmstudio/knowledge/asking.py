"""Many questions to a model and to what was tuned from it, asked by a process of its own and kept on disk.

    <place>/
        work.json       the models and the questions                (whoever starts it)
        answers.jsonl   one line for each answer: what was asked before is not asked again   (the process)
        and the files of a job (`jobs.background_job`)

Nothing is lost with the page, the studio or the process: it goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glmstudio import untrusted
from glmstudio.errors import StudioError
from glmstudio.families.message import Message
from glmstudio.files import read_table, write_json
from glmstudio.jobs.background_job import BackgroundJob
from glmstudio.jsonl import rows_from
from glmstudio.system.portable.locks import alone

LIMIT = 128  # tokens of an answer: a fact is short, and what has no end is told as that


@dataclass(frozen=True)
class QuestionToAsk:
    """One question to be asked: `due` is the answer whose likelihood is measured, "" for none."""

    key: str
    messages: Sequence[Message]
    due: str = ""

    def to_json(self) -> dict[str, Any]:
        """For `work.json`."""
        return {"key": self.key, "messages": _listed(self.messages), "due": self.due}


@dataclass(frozen=True)
class ModelUnderTest:
    """Who is asked: a model's folder, with what was learned on it ("" for the base alone). `mark` changes with them."""

    who: str
    model: str
    adapter: str = ""

    @property
    def mark(self) -> str:
        """Another text once a file of the model or of the adapter is another one."""
        return ",".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in self._files())

    def _files(self) -> list[Path]:
        folders = [Path(each) for each in (self.model, self.adapter) if each]
        return [file for folder in folders for file in sorted(folder.glob("*")) if file.is_file()]


@dataclass(frozen=True)
class ModelAnswer:
    """An answer as the model wrote it, a tool's name and a line break first. `ended` is False where it was cut;
    `likelihood` is the mean log-probability of the tokens of the answer that was due, None where none was."""

    text: str
    ended: bool
    likelihood: float | None = None


@dataclass(frozen=True)
class AskingProgress:
    """How far it is, and what stopped it. `running` is False where nobody asks: before the start, and at the end."""

    done: int = 0
    total: int = 0
    running: bool = False
    problem: StudioError | None = None
    seconds_left: float | None = None

    @property
    def whole(self) -> bool:
        """Whether everything was asked."""
        return bool(self.total) and self.done >= self.total


class Asking:
    """One list of questions to one or two models, in a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._job = BackgroundJob(place)

    def start(
        self,
        parts: Sequence[ModelUnderTest],
        questions: Sequence[QuestionToAsk],
        *,
        opening: Sequence[Message] = (),
        limit: int = LIMIT,
        device: str = "",
    ) -> None:
        """Begin, or go on where it stopped; nothing happens while somebody is at it. `opening` stands before the
        messages of every question; their keys must tell it."""
        self.place.mkdir(parents=True, exist_ok=True)
        with alone(self.place):
            if self._job.at_work():
                return
            marked = [asdict(part) | {"mark": part.mark} for part in parts]
            work = {
                "parts": marked,
                "opening": _listed(opening),
                "questions": [each.to_json() for each in questions],
                "limit": limit,
                "device": device,
            }
            write_json(self.place / "work.json", work)
            wanted = {(part["mark"], each.key) for part in marked for each in questions}
            done = len(wanted & set(read_answers(self.place)))
            begun = {"done": done, "total": len(wanted)}
            if done == len(wanted):
                self._job.tell(begun)
            else:
                self._job.launch("glmstudio.serve.batch_worker", str(self.place.absolute()), status=begun)

    def cancel(self) -> None:
        """End it; what was answered stays, and a new start goes on from there."""
        self._job.end(kill=False)

    def look(self) -> AskingProgress:
        """How far it is."""
        working, status = self._job.look()
        done, total = (int(untrusted.number(status.get(name))) for name in ("done", "total"))
        problem = untrusted.problem(status.get("problem"))
        if problem is None and not working and total and done < total and self._job.asked:
            problem = StudioError("knowledge.interrupted", done=done, total=total)
        return AskingProgress(done, total, working, problem, untrusted.number(status.get("seconds_left")) or None)

    def answers(self) -> dict[tuple[str, str], ModelAnswer]:
        """What was said so far: by who was asked, and the question's key."""
        marks = {str(part.get("mark")): str(part.get("who")) for part in self._parts()}
        return {(marks[mark], key): said for (mark, key), said in read_answers(self.place).items() if mark in marks}

    def _parts(self) -> list[dict[str, Any]]:
        parts = read_table(self.place / "work.json").get("parts")
        return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _listed(messages: Sequence[Message]) -> list[list[Any]]:
    return [each.to_json() for each in messages]


def read_answers(place: Path) -> Mapping[tuple[str, str], ModelAnswer]:
    """Every answer in `answers.jsonl` by the mark of who gave it and the question's key."""
    rows, _ = rows_from(place / "answers.jsonl", 0)
    return {
        (str(row.get("mark")), str(row.get("key"))): ModelAnswer(
            str(row.get("text", "")),
            row.get("ended") is True,
            float(row["likelihood"]) if isinstance(row.get("likelihood"), (int, float)) else None,
        )
        for row in rows
    }
