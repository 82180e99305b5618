"""One training session, read top to bottom: model, data, steps, result."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import set_seed

from glmstudio.data.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.glm.adapters import save_official, save_prefix
from glmstudio.glm.load import load_model
from glmstudio.glm.prefix import Prefix, attach_prefix
from glmstudio.models import ready_model
from glmstudio.runs.presets import Settings
from glmstudio.train.batches import load_examples
from glmstudio.train.trainer import make_trainer

_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def train(folder: Path) -> int:
    """Train the run in `folder`; 0 when it finished or was stopped as asked. A reason is left in `progress.json`."""
    settings = Settings(**read_json(folder / "run.json")["settings"])
    try:
        _train(settings, folder)
    except StudioError as problem:
        _tell(folder, problem)
        return 1
    except torch.OutOfMemoryError:
        _tell(folder, StudioError("runs.out_of_memory"))
        return 1
    return 0


def _train(settings: Settings, folder: Path) -> None:
    write_json(folder / "progress.json", {"phase": "loading", "steps": settings.steps})
    model = ready_model(settings.model)
    set_seed(settings.seed)
    glm = load_model(model.path, dtype=_DTYPES[settings.dtype])
    glm.requires_grad_(False)
    attach_prefix(glm, fresh_prefix(glm, settings))
    if settings.gradient_checkpointing:
        # Its old name in transformers 5.20, the last one for Python 3.10.
        enable = getattr(glm, "activation_checkpointing_enable", glm.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
    examples, counted = load_examples(settings.data, Tokenizer(model.path), settings.max_length)
    write_json(folder / "records.json", asdict(counted))
    trainer, witness = make_trainer(glm, examples, settings, folder)
    trainer.train()
    witness.phase("saving")
    save_prefix(glm, folder / "result", base=settings.model)
    save_official(glm, folder / "result" / "official")
    witness.phase("stopped" if witness.stopped else "done")


def fresh_prefix(glm: torch.nn.Module, settings: Settings) -> Prefix:
    """A prefix that starts from proper random numbers, checked: what is not finite or all zero would learn nothing."""
    projection = glm.config.hidden_size if settings.prefix_projection else None
    prefix = Prefix(glm.config, settings.prefix_length, projection=projection, dropout=settings.prefix_dropout)
    prefix.initialise(settings.prefix_std)
    table = prefix.table()
    if not torch.isfinite(table).all() or not table.std() > 0:
        raise StudioError("runs.bad_start")
    return prefix


def _tell(folder: Path, problem: StudioError) -> None:
    progress = read_json(folder / "progress.json", {}) or {}
    write_json(folder / "progress.json", progress | {"phase": "failed", "problem": problem.to_json()})
    sys.stderr.write(f"{problem}\n")
