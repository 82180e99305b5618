"""What was learned, for use elsewhere: official prefix, PEFT adapter, merged model, or a bundle to repeat the run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.jobs.json_child import ask
from glmstudio.models import ready_model
from glmstudio.rundir.checkpoints import list_checkpoints
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run
from glmstudio.runs.bundle import write_bundle

FORMS = ("official", "peft", "merged", "bundle")


def forms_of(run: Run) -> tuple[str, ...]:
    """The forms that what this run learned can have."""
    method = run.settings.get("method")
    return {"ptuning_v2": ("official", "peft", "bundle"), "lora": ("peft", "merged", "bundle")}.get(
        str(method), ("merged", "bundle")
    )


def export_run(run: Run, form: str, target: Path, *, step: int | None = None) -> Path:
    """Write the result, or the checkpoint of `step`, in `form` to the new folder `target`, whole or not at all.

    Raises StudioError for a form that this kind of result cannot have, a folder that exists, and no result.
    """
    if form not in forms_of(run):
        raise StudioError("runs.no_such_form", name=run.name, form=form, forms=", ".join(forms_of(run)))
    target = target.expanduser().absolute()
    if os.path.lexists(target):
        raise StudioError("runs.target_exists", folder=str(target))
    source = learned(run, step)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if form == "bundle":
            write_bundle(run, source, part)
        else:
            _convert(run, source, form, part)
        for file in part.rglob("*.safetensors"):
            file.chmod(0o644)  # its writer makes it the owner's alone
        part.rename(target)
    except OSError as error:
        raise StudioError("runs.no_folder", folder=str(target), reason=error.strerror or str(error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def learned(run: Run, step: int | None = None) -> Path:
    """The folder of the run's result, or of its whole checkpoint at `step`. Raises StudioError."""
    if step is None:
        if run.result is None:
            raise StudioError("runs.no_result", name=run.name)
        return run.result
    whole = [each for each in list_checkpoints(run.path / RunFiles.CHECKPOINTS) if each.whole]
    found = next((each.path for each in whole if each.step == step), None)
    if found is None:
        steps = ", ".join(str(each.step) for each in whole) or "–"
        raise StudioError("runs.no_checkpoint", name=run.name, step=step, steps=steps)
    return found


def _convert(run: Run, source: Path, form: str, part: Path) -> None:
    model = ready_model(run.model)
    arguments = (str(model.path), model.name, str(source), form, str(part))
    ask("glmstudio.glm.export_process", *arguments, broke="runs.export_broke")
