"""What was learned, for use elsewhere: in the forms that other programs read, or a bundle to repeat the run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.recognition import family_of
from glmstudio.files import read_table
from glmstudio.models import find_model, ready_model
from glmstudio.models.exports.export_request import GGUF, GGUF_LORA, NATIVE, PEFT, ExportRequest, checked_type
from glmstudio.models.exports.model_export import base_card, carry_out, native_base
from glmstudio.models.exports.new_folder import absolute, new_folder, refuse_existing
from glmstudio.rundir.checkpoints import list_checkpoints
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run
from glmstudio.runs.bundle import write_bundle

_BY_METHOD = {
    "ptuning_v2": ("official", PEFT, "bundle"),
    "lora": (NATIVE, GGUF, PEFT, GGUF_LORA, "merged", "bundle"),
    "full": (NATIVE, GGUF, "merged", "bundle"),
}
FORMS = (NATIVE, GGUF, PEFT, GGUF_LORA, "official", "merged", "bundle")
_SHOWN = ("method", "learning_rate", "steps", "epochs", "batch_size", "accumulation")
_HERE = ("data", "model", "validation", "warm_start", "device", "processes", "save_every", "keep_checkpoints")
_STARTS = {"ptuning_v2": "prefix_", "lora": "lora_"}  # of settings that count for one method alone


def forms_of(run: Run) -> tuple[str, ...]:
    """The forms that what this run learned can have, those for the most programs first."""
    forms = _BY_METHOD.get(str(run.settings.get("method")), _BY_METHOD["full"])
    return forms if _is_chatglm3(run) else tuple(form for form in forms if form != "official")


def export_run(run: Run, form: str, target: Path, *, step: int | None = None, kind: str = "") -> Path:
    """Write the result, or the checkpoint of `step`, in `form` to the new folder `target`, whole or not at all.

    `kind` is the type of the weights, where the form has several.

    Raises StudioError for a form that this kind of result cannot have, a folder that exists, and no result.
    """
    if form not in forms_of(run):
        if run.settings.get("method") == "ptuning_v2" and form in (NATIVE, GGUF, GGUF_LORA):
            raise StudioError("exports.prefix", name=run.name, form=form)
        raise StudioError("runs.no_such_form", name=run.name, form=form, forms=", ".join(forms_of(run)))
    kind, target = checked_type(form, kind), absolute(target)
    refuse_existing(target)
    source = learned(run, step)
    with new_folder(target) as part:
        if form == "bundle":
            write_bundle(run, source, part)
        else:
            model = ready_model(run.model)
            card = base_card(model) | _card(run, step)
            request = ExportRequest(
                form, str(model.path), model.name, str(part), target.name,
                learned=str(source), kind=kind, native_base=native_base(model), card=card,
            )  # fmt: skip
            carry_out(request)
    return target


def _is_chatglm3(run: Run) -> bool:
    """Whether its model is one, as far as it can be found: others have no official form."""
    try:
        return family_of(find_model(run.model).path) is CHATGLM3
    except StudioError:
        return True


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


def _card(run: Run, step: int | None) -> dict[str, Any]:
    """What a model card says of the run: settings that differ from the usual ones, data by name and number, losses, and
    the newest score of facts. No path of this machine."""
    usual, method = Settings(), str(run.settings.get("method"))
    others = [start for own, start in _STARTS.items() if own != method]
    settings = {
        name: value
        for name, value in run.settings.items()
        if name in _SHOWN
        or (value != getattr(usual, name, value) and name not in _HERE and not name.startswith(tuple(others)))
    }
    records = read_table(run.path / RunFiles.RECORDS)
    state = run.read_state()
    return {
        "run": run.name,
        "step": state.step if step is None else step,
        "settings": {name: value for name, value in settings.items() if isinstance(value, (str, int, float, bool))},
        "data": Path(run.data).name,
        "records": records.get("used"),
        "sha256": records.get("sha256"),
        "loss": state.loss if step is None else None,
        "validation_loss": state.validation_loss if step is None else None,
        "score": _score(run),
    }


def _score(run: Run) -> dict[str, dict[str, int]]:
    """Lines of the newest score of facts: how many of how many, by the base and fine-tuned."""
    files = sorted((run.path / RunFiles.SCORE).glob("*/result.json"), key=lambda file: file.stat().st_mtime)
    lines: dict[str, dict[str, int]] = {}
    with contextlib.suppress(IndexError, AttributeError):
        for name, count in read_table(files[-1]).items():
            if isinstance(count, dict) and isinstance(count.get("of"), int) and isinstance(count.get("tuned"), int):
                lines[name] = {key: value for key, value in count.items() if isinstance(value, int)}
    return lines
