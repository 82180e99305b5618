"""A score at work: one for each place that asked for it, in a thread, on the loaded model or on a server of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from glmstudio.chat.model_server import ModelServer, RunningServer
from glmstudio.chat.terminal_chat import own_server
from glmstudio.chat.tool_score import ToolScore, score
from glmstudio.data.records import form_of
from glmstudio.errors import StudioError
from glmstudio.knowledge import scoring as facts
from glmstudio.knowledge.result import FactsScore
from glmstudio.rundir.occupancy import chat_device, run_on

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreRequest:
    """What is to be scored: a model and what was learned on it ("" for the base alone), on so many questions."""

    model: str
    adapter: str
    file: Path
    count: int


@dataclass
class ScoreTask:
    """One of them: how far it is, and what came of it."""

    job: ScoreRequest
    done: int = 0
    total: int = 0
    running: bool = True
    result: ToolScore | FactsScore | None = None
    problem: StudioError | None = None
    cancel: threading.Event = field(default_factory=threading.Event)

    def moved(self, done: int, total: int) -> None:
        """So many questions are answered."""
        self.done, self.total = done, total


class ScoreTasks:
    """The last scoring of each place, shared by every open page."""

    def __init__(self) -> None:
        self._known: dict[str, ScoreTask] = {}
        self._lock = threading.Lock()

    def get(self, place: str) -> ScoreTask | None:
        """The last one; None where there was none."""
        return self._known.get(place)

    def start(self, place: str, job: ScoreRequest) -> None:
        """Score in the background; a second click while it goes on changes nothing."""
        with self._lock:
            last = self._known.get(place)
            if last is not None and last.running:
                return
            scoring = self._known[place] = ScoreTask(job)
        threading.Thread(target=_run, args=(scoring,), daemon=True, name="score").start()

    def stop(self, place: str) -> None:
        """End it; what was asked until then is the result."""
        if (scoring := self._known.get(place)) is not None:
            scoring.cancel.set()


@contextmanager
def served(model: str, adapter: str) -> Iterator[RunningServer]:
    """A server with the model; its models are base and tuned. Raises StudioError."""
    state = ModelServer.current()
    if state.state == "ready" and state.model == model:
        names = [ModelServer.loaded()[0].id, *([ModelServer.add(adapter)] if adapter else [])]
        yield RunningServer(state.port, names, ModelServer.key())
        return
    if run := run_on(chat_device()):
        raise StudioError("ui.run.versus_busy", name=run.name)
    with own_server(model, [adapter] if adapter else []) as own:
        yield own


def _run(scoring: ScoreTask) -> None:
    job = scoring.job
    try:
        if form_of(job.file) == "facts":
            asked = facts.Scoring.of(job.file, job.model, job.adapter, most=job.count)
            scoring.result = asked.run(lambda look: scoring.moved(look.done, look.total), scoring.cancel)
            return
        with served(job.model, job.adapter) as there:
            scoring.result = score(job.file, there, count=job.count, tell=scoring.moved, cancel=scoring.cancel)
    except StudioError as error:
        scoring.problem = error
    except Exception:
        # Whatever broke, the page must not say "at work" for ever.
        log.exception("A score broke")
        scoring.problem = StudioError("ui.broken")
    finally:
        scoring.running = False


SCORINGS = ScoreTasks()
