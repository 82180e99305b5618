"""While a run learns facts: a fixed small part of the score at each checkpoint, beside the loss.

Asked are some of the facts in both forms of prompt, and some of the bundled questions that the base answers: those it
has to keep. `exam.json` holds which ones, so that a run that goes on asks the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GlmForCausalLM

from glmstudio.config.settings import Settings
from glmstudio.data.protocol.prompt import answer_text, chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.files import read_table, write_json
from glmstudio.glm.batch_generation import generate
from glmstudio.knowledge.exam import FORMS, MOST_FACTS, Question, exam, read_facts
from glmstudio.knowledge.materials import kept_questions, prompt_tools
from glmstudio.models.library import Model
from glmstudio.rundir.record import RunFiles
from glmstudio.train.run_reporter import RunReporter

_FACTS, _KEPT = 12, 16
_LIMIT = 64  # tokens of an answer
LEAST_KEPT = 0.8


@dataclass(frozen=True)
class ExamScores:
    """How many facts are known, of how many, and how many questions were kept."""

    learned: int
    learned_of: int
    kept: int
    kept_of: int

    @property
    def worth(self) -> float:
        """The mean of both shares: what makes one checkpoint better than another."""
        shares = [self.learned / self.learned_of] + ([self.kept / self.kept_of] if self.kept_of else [])
        return sum(shares) / len(shares)

    @property
    def forgets(self) -> bool:
        """Whether too little was kept."""
        return self.kept < LEAST_KEPT * self.kept_of


class Exam:
    """The questions of one run; `ask` answers them with the model as it is now."""

    def __init__(self, tokenizer: Tokenizer, facts: Sequence[Question], kept: Sequence[Question]) -> None:
        self._tokenizer, self._facts, self._kept = tokenizer, list(facts), list(kept)

    @classmethod
    def of(cls, glm: GlmForCausalLM, settings: Settings, model: Model, folder: Path) -> Exam | None:
        """The exam of a run, before anything is put on the model; None where its data hold no facts, and where the GPU
        has no room even for one question."""
        facts = read_facts(settings.data, MOST_FACTS)
        if not facts:
            return None
        some = facts[:: -(-len(facts) // _FACTS)]
        forms = FORMS if settings.facts_with_tools else FORMS[:1]
        asked = [each for each in exam(some, [], prompt_tools(model), forms) if each.line == "learned"]
        made = cls(Tokenizer(model.path), asked, kept_questions(model))
        try:
            made._keep_what_it_can(glm, folder / RunFiles.EXAM)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return None
        return made

    def _keep_what_it_can(self, glm: GlmForCausalLM, file: Path) -> None:
        keys = read_table(file).get("kept")
        if not isinstance(keys, list):
            right = self._right(glm, self._kept)
            keys = [each.key for each, good in zip(self._kept, right, strict=True) if good][:_KEPT]
            write_json(file, {"kept": keys}, parents=False)
        self._kept = [each for each in self._kept if each.key in keys]

    def ask(self, glm: GlmForCausalLM) -> ExamScores:
        """The marks of the model as it is."""
        right = self._right(glm, [*self._facts, *self._kept])
        count = len(self._facts)
        return ExamScores(sum(right[:count]), count, sum(right[count:]), len(self._kept))

    def _right(self, glm: GlmForCausalLM, questions: Sequence[Question]) -> list[bool]:
        prompts = [chat_ids(self._tokenizer, each.messages, begun=False) for each in questions]
        learning = glm.training
        glm.eval()
        try:
            answers = dict(generate(glm, prompts, self._tokenizer.stop_ids, limit=_LIMIT))
        finally:
            glm.train(learning)
        return [each.is_right(answer_text(self._tokenizer, answers[place].ids)) for place, each in enumerate(questions)]


def examine(exam_of_run: Exam, glm: GlmForCausalLM, step: int, reporter: RunReporter) -> ExamScores | None:
    """Ask, and have it written beside the loss; None where the GPU has no room for it beside the training."""
    reporter.phase("examining")
    try:
        with torch.no_grad():
            marks = exam_of_run.ask(glm)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    reporter.examined(step, learned=(marks.learned, marks.learned_of), kept=(marks.kept, marks.kept_of))
    return marks
