"""Who holds a device, and who uses a model: one run at a time on each device, and never a run and a chat unasked."""

from __future__ import annotations

from pathlib import Path

from glmstudio.config import devices
from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.models.jobs import read
from glmstudio.paths import paths
from glmstudio.rundir.run import Run, list_runs
from glmstudio.system import process

SERVER = "server.json"  # in the state folder: the model server that was started (`glmstudio.chat.model_server`)


def run_on(device: str) -> Run | None:
    """The run that holds the device, or a GPU of it, now."""
    return next(
        (run for run in list_runs() if devices.overlap(run.device, device) and run.read_state().holds_device), None
    )


def loaded_model() -> str | None:
    """The model that a chat has loaded, or loads, now."""
    server = read_table(paths().state / SERVER)
    model = server.get("model")
    alive = process.alive(process.Identity.from_json(server.get("identity")))
    return model if alive and isinstance(model, str) else None


def chat_on(device: str) -> str | None:
    """The model that a chat holds on the device now."""
    model = loaded_model()
    return model if model is not None and devices.overlap(device, _loaded_on()) else None


def chat_device() -> str:
    """Where a chat loads its model: the first GPU, or the CPU."""
    return next((card.uuid for card in devices.cards()), devices.CPU)


def _loaded_on() -> str:
    """Where the loaded model is: vLLM may have several GPUs."""
    told = read_table(paths().state / SERVER).get("device")
    return told if isinstance(told, str) and told else chat_device()


def refuse_held(device: str, *, chat_too: bool = True) -> None:
    """Raise StudioError where a run, or a chat, holds the device: what to do about it is in its words."""
    if held := run_on(device):
        raise StudioError("runs.device_busy", name=held.name)
    if chat_too and (model := chat_on(device)):
        raise StudioError("runs.chat_loaded", model=model)


def refuse_in_use(name: str, folder: Path) -> None:
    """Raise StudioError, naming by what, where a model is loaded for a chat, learned on, or being worked on."""
    job = read(folder)
    if job and job.live:
        raise StudioError("models.job_busy", model=name)
    known = (name, str(folder))
    if loaded_model() in known:
        raise StudioError("models.in_use", name=name, by=StudioError("models.used_by_chat"))
    for run in list_runs():
        if run.model in known and run.read_state().live:
            raise StudioError("models.in_use", name=name, by=StudioError("models.used_by_run", run=run.name))
