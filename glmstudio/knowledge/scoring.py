"""The score of facts as a job: what is asked, where it is kept, how far it is, and what came of it."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from glmstudio.chat.available_tools import run_behind
from glmstudio.data.readers.sources import on_disk, sheet_name, source_files
from glmstudio.errors import StudioError
from glmstudio.files import digest, read_table, write_json
from glmstudio.knowledge.asking import Asking, AskingProgress, ModelUnderTest, QuestionToAsk
from glmstudio.knowledge.exam import FORMS, MOST_FACTS, Question, exam, read_facts
from glmstudio.knowledge.materials import kept_questions, prompt_tools
from glmstudio.knowledge.parts import not_beside_a_run, parts_of
from glmstudio.knowledge.result import FactsScore, scored
from glmstudio.models import ready_model
from glmstudio.paths import paths
from glmstudio.rundir.run import Run, find_run

FOLDER, RESULT = "score", "result.json"  # of a run, of a score


@dataclass(frozen=True)
class Scoring:
    """One score: who is asked what, and the folder that keeps it."""

    file: Path
    parts: tuple[ModelUnderTest, ...]
    questions: tuple[Question, ...]
    forms: tuple[str, ...]
    asking: Asking

    @classmethod
    def of(cls, file: Path, model: str, adapter: str = "", *, most: int = MOST_FACTS) -> Scoring:
        """The score of a facts file by a model and what was learned on it (a run's name or a folder; "" for the base
        alone). Raises StudioError where something is missing."""
        facts = read_facts(file, most)
        if not facts:
            raise StudioError("knowledge.no_facts", file=str(file))
        run = run_behind(model, adapter)
        parts = parts_of(model, adapter, run)
        base = ready_model(parts[0].model)
        questions = exam(facts, kept_questions(base), prompt_tools(base))
        place = (run.path / FOLDER if run else paths().state / "scores") / _key(file, parts, most)
        return cls(file, parts, tuple(questions), FORMS if run and run.learned_tools else FORMS[:1], Asking(place))

    def start(self) -> None:
        """Begin, or go on where it was. Raises StudioError where a run holds the GPU."""
        not_beside_a_run()
        asked = {
            each.key: QuestionToAsk(
                each.key, each.messages, each.due if each.call is None and each.line == "learned" else ""
            )
            for each in self.questions
        }
        self.asking.start(self.parts, list(asked.values()))

    def result(self) -> FactsScore:
        """What the answers so far say."""
        return scored(self.questions, self.asking.answers(), self.forms, tuned=len(self.parts) > 1)

    def run(self, tell: Callable[[AskingProgress], None], cancel: threading.Event | None = None) -> FactsScore:
        """Ask everything and wait for it; `tell` hears how far it is. Raises StudioError, as where `cancel` is set."""
        self.start()
        try:
            while (look := self.asking.look()).running:
                tell(look)
                if cancel is not None and cancel.is_set():
                    self.asking.cancel()
                time.sleep(0.2)
        except BaseException:
            self.asking.cancel()
            raise
        tell(look)
        if look.problem:
            raise look.problem
        return self.finish()

    def finish(self) -> FactsScore:
        """Keep the result beside the answers."""
        result = self.result()
        write_json(self.asking.place / RESULT, result.to_json())
        return result

    def kept(self) -> FactsScore | None:
        """The result that was kept; None where there is none yet."""
        return FactsScore.from_json(read_table(self.asking.place / RESULT))


def of_run(run: Run) -> Scoring:
    """The score of what a run learned, on its own facts. Raises StudioError where they are gone."""
    return Scoring.of(Path(run.data), run.model, run.name)


def last_score(run: Run) -> FactsScore | None:
    """The newest whole score of a run; None where there is none."""
    found = sorted((run.path / FOLDER).glob(f"*/{RESULT}"), key=lambda file: file.stat().st_mtime)
    return FactsScore.from_json(read_table(found[-1])) if found else None


def _key(file: Path, parts: Sequence[ModelUnderTest], most: int) -> str:
    sums = [digest(on_disk(each)) + sheet_name(each) for each in source_files(file)]
    return hashlib.sha256(repr([sums, [part.mark for part in parts], most]).encode()).hexdigest()[:16]


def main(name: str) -> int:
    """Score the run of that name, as its supervisor wishes when it has finished."""
    try:
        of_run(find_run(name)).run(lambda _: None)
    except StudioError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
