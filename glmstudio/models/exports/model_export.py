"""A model written for other programs by a child process, and where its base was written before.

An adapter is of use elsewhere with the folder of its base for transformers, so where that went is remembered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.recognition import NATIVE as NATIVE_TYPE
from glmstudio.families.recognition import NATIVE_0414, family_of
from glmstudio.files import read_table, write_json
from glmstudio.jobs.json_child import ask
from glmstudio.models import manifest
from glmstudio.models.catalogue import catalogue
from glmstudio.models.exports.export_request import GGUF, NATIVE, ExportRequest, checked_type
from glmstudio.models.exports.new_folder import absolute, new_folder
from glmstudio.models.library import DEMO_NAME, Model, ready_model
from glmstudio.paths import paths

_LICENCE = "https://github.com/zai-org/ChatGLM3/blob/main/MODEL_LICENSE"
_LICENCES = {"chatglm3": "ChatGLM3", "glm4": "GLM-4", "glm4_0414": "MIT", "glm_z1": "MIT"}


def export_model(name_or_dir: str, form: str, target: Path, *, kind: str = "") -> Path:
    """Write an untouched model for transformers ("native") or llama.cpp ("gguf") to the new folder `target`.

    Raises StudioError, and then nothing is kept: also where another program makes something else of it than the studio.
    """
    if form not in (NATIVE, GGUF):
        raise StudioError("exports.no_such_form", form=form, forms=f"{NATIVE}, {GGUF}")
    kind, target = checked_type(form, kind), absolute(target)
    model = ready_model(name_or_dir)
    with new_folder(target) as part:
        card = base_card(model)
        carry_out(ExportRequest(form, str(model.path), model.name, str(part), target.name, kind=kind, card=card))
    if form == NATIVE:
        _remember(model, target)
    return target


def carry_out(request: ExportRequest) -> dict[str, Any]:
    """Let a child process write it; returns what it told. Raises StudioError."""
    told: dict[str, Any] = ask("glmstudio.glm.export_process", request.to_json(), broke="runs.export_broke")
    return told


def native_base(model: Model) -> str:
    """The folder to which this model was exported for transformers, if it is still there; else empty."""
    folder = Path(str(read_table(_file()).get(str(model.path), "")))
    there = folder.is_absolute() and read_table(folder / "config.json").get("model_type") in (NATIVE_TYPE, NATIVE_0414)
    return str(folder) if there else ""


def base_card(model: Model) -> dict[str, Any]:
    """What a model card says of the base: its name, its id at a hub, and its licence."""
    known = catalogue().get(model.name)
    _, repo = manifest.origin(model.path)
    if model.name == DEMO_NAME:
        return {"base": model.title, "repo": "", "licence": "Apache-2.0", "licence_link": ""}
    repo = known.huggingface if known else repo
    family = family_of(model.path)
    link = (known.licence if known else "") or (_LICENCE if family is CHATGLM3 else "")
    licence = _LICENCES.get(family.name, _LICENCES["glm4"])
    return {"base": known.title if known else model.title, "repo": repo, "licence": licence, "licence_link": link}


def _remember(model: Model, target: Path) -> None:
    there = {path: folder for path, folder in read_table(_file()).items() if Path(str(folder)).is_dir()}
    write_json(_file(), there | {str(model.path): str(target)})


def _file() -> Path:
    return paths().state / "native_bases.json"
