"""A score in the background: on the loaded model or on a server of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from glmstudio.chat.model_server import ModelServer, RunningServer
from glmstudio.chat.terminal_chat import own_server
from glmstudio.chat.tool_score import ToolScore, score
from glmstudio.data.records import form_of
from glmstudio.errors import StudioError
from glmstudio.knowledge import scoring as facts
from glmstudio.knowledge.result import FactsScore
from glmstudio.rundir.occupancy import chat_device, run_on
from glmstudio.ui.state.background import TASKS, BackgroundTask

KIND = "score"


@dataclass(frozen=True)
class ScoreRequest:
    """What is to be scored: a model and an adapter ("" for the base alone), on so many questions."""

    model: str
    adapter: str
    file: Path
    count: int


def start_score(owner: str, request: ScoreRequest) -> None:
    """Score in the background; a second click while it goes on changes nothing."""
    TASKS.start(owner, KIND, partial(_score, request))


@contextmanager
def served(model: str, adapter: str) -> Iterator[RunningServer]:
    """A server with the base and the adapter loaded. Raises StudioError."""
    state = ModelServer.current()
    if state.state == "ready" and state.model == model:
        names = [ModelServer.loaded()[0].id, *([ModelServer.add(adapter)] if adapter else [])]
        yield RunningServer(state.port, names, ModelServer.key())
        return
    if run := run_on(chat_device()):
        raise StudioError("ui.run.versus_busy", name=run.name)
    with own_server(model, [adapter] if adapter else []) as own:
        yield own


def _score(request: ScoreRequest, task: BackgroundTask) -> tuple[str, ToolScore | FactsScore]:
    """Whose score it is, and the score."""
    name = request.adapter or request.model
    if form_of(request.file) == "facts":
        asked = facts.Scoring.of(request.file, request.model, request.adapter, most=request.count)
        return name, asked.run(lambda look: task.moved(look.done, look.total), task.cancel)
    with served(request.model, request.adapter) as there:
        return name, score(request.file, there, count=request.count, tell=task.moved, cancel=task.cancel)
