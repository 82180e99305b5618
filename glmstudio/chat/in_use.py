"""Whether a model is being used: what is loaded or trained on must not be taken away."""

from __future__ import annotations

from pathlib import Path

from glmstudio.chat.model_server import ModelServer
from glmstudio.errors import StudioError
from glmstudio.models.jobs import read
from glmstudio.rundir.run import list_runs


def refuse_in_use(name: str, folder: Path) -> None:
    """Raise StudioError, naming by what, where the model is loaded for a chat, learned on, or being worked on."""
    job = read(folder)
    if job and job.live:
        raise StudioError("models.job_busy", model=name)
    known = (name, str(folder))
    server = ModelServer.current()
    if server.state in ("loading", "ready") and server.model in known:
        raise StudioError("models.in_use", name=name, by=StudioError("models.used_by_chat"))
    for run in list_runs():
        if run.model in known and run.read_state().live:
            raise StudioError("models.in_use", name=name, by=StudioError("models.used_by_run", run=run.name))
