"""Questions to a run and its base that wait for their answers: one after the other, and none is lost."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict

from glmstudio.chat.comparison import ask_both, needs_loading
from glmstudio.chat.kept_prompts import KeptPrompt, keep_prompt, kept_prompts
from glmstudio.errors import StudioError, refused
from glmstudio.rundir.run import Run
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state.conversations import CONVERSATIONS

log = logging.getLogger(__name__)


class Comparisons:
    """The questions of all runs in the order in which they were asked; shared by every open page."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Run, str]] = []
        self._problems: dict[tuple[str, str], StudioError] = {}
        self._lock = threading.Lock()

    def ask(self, run: Run, question: str) -> None:
        """Keep the question with the run, and ask it in its turn; one that waits already is not asked twice.

        Raises OSError where it cannot be kept.
        """
        if all(each.question != question for each in kept_prompts(run)):
            keep_prompt(run, KeptPrompt(question))
        with self._lock:
            if question in self.waiting(run.name):
                return
            self._problems.pop((run.name, question), None)
            self._waiting.append((run, question))
            if len(self._waiting) == 1:
                threading.Thread(target=self._work, daemon=True, name="comparisons").start()

    def waiting(self, name: str) -> list[str]:
        """The questions of a run that have no answer yet, in their order."""
        return [question for run, question in [*self._waiting] if run.name == name]

    def asking(self) -> tuple[str, str] | None:
        """Run and question that are being answered."""
        first = next(iter([*self._waiting]), None)
        return (first[0].name, first[1]) if first else None

    def problem(self, name: str, question: str) -> StudioError | None:
        """Why there was no answer."""
        return self._problems.get((name, question))

    def drop(self, name: str, question: str) -> None:
        """Do not ask it, unless it is being asked."""
        with self._lock:
            self._waiting[1:] = [each for each in self._waiting[1:] if (each[0].name, each[1]) != (name, question)]
            self._problems.pop((name, question), None)

    def _work(self) -> None:
        while True:
            run, question = self._waiting[0]
            if (problem := self._answer(run, question)) is not None:
                self._problems[run.name, question] = problem
            with self._lock:
                self._waiting.pop(0)
                if not self._waiting:
                    return

    def _answer(self, run: Run, question: str) -> StudioError | None:
        try:
            if not run.is_whole_model and needs_loading(run):
                CONVERSATIONS.stop_all()  # the model that answers them is about to be unloaded
            answers = ask_both(run, question)
            keep_prompt(run, KeptPrompt(question, **asdict(answers), asked=time.time()))
        except StudioError as error:
            return error
        except OSError as error:
            return refused(error)
        except Exception:
            log.exception("A comparison broke")
            return StudioError("ui.broken")
        finally:
            clear_caches()
        return None


COMPARISONS = Comparisons()
