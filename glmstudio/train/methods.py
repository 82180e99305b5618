"""The ways to tune: what each puts on the model, writes at a save, and reads back when a run goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GlmForCausalLM

from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.glm.adapters.adapter_files import load_prefix, save_official, save_prefix
from glmstudio.glm.adapters.lora import ATTENTION, EVERY, Lora, attach_lora
from glmstudio.glm.adapters.lora_files import load_lora, restore_lora, save_lora
from glmstudio.glm.adapters.prefix import Prefix, attach_prefix
from glmstudio.glm.layers import compile_layers
from glmstudio.glm.weights.model_config import has_published_layout
from glmstudio.models.library import Model

DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class AdapterFiles:
    """`save` and `restore` are a checkpoint; `finish` writes the result.

    `save(glm, folder, model)` and `finish(glm, folder, model)`: `model` is the base.
    """

    save: Callable[[GlmForCausalLM, Path, Model], None]
    restore: Callable[[GlmForCausalLM, Path], None]
    finish: Callable[[GlmForCausalLM, Path, Model], None]


@dataclass(frozen=True)
class Method:
    """`attach(glm, settings, warm)` puts on the model what learns; `warm` is the folder to go on from, or None.

    `files` is None where the model learns as a whole, which `glmstudio.train.strategies.full_state` writes and reads.
    """

    attach: Callable[[GlmForCausalLM, Settings, Path | None], None]
    files: AdapterFiles | None = None


def weights_type(settings: Settings) -> torch.dtype | None:
    """The type in which the base is held. What learns must be float32: 16-bit numbers would lose small steps."""
    return torch.float32 if settings.method == "full" else DTYPES[settings.dtype]


def checkpoint_layers(glm: GlmForCausalLM, settings: Settings) -> None:
    """Have as many of the first layers computed again in the backward pass as the settings say. The first: when their
    turn comes, the others have given their memory back."""
    if settings.gradient_checkpointing != "on":
        return
    # Its old name in transformers 5.20, the last one for Python 3.10.
    enable = getattr(glm, "activation_checkpointing_enable", glm.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
    for layer in glm.model.layers[settings.checkpoint_layers :] if settings.checkpoint_layers else ():
        layer.gradient_checkpointing = False


def compile_kernels(glm: GlmForCausalLM, settings: Settings) -> None:
    """Compile the layers' small steps where the settings say so. Raises StudioError where this machine cannot."""
    if not settings.compile:
        return
    try:
        compile_layers(glm.device, glm.dtype)
    except Exception as error:  # each backend has its own classes, and none is promised
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise StudioError("runs.no_compiler", reason=said[0]) from error


def fresh_prefix(glm: GlmForCausalLM, settings: Settings) -> Prefix:
    """A prefix that starts from proper random numbers, checked: what is not finite or all zero would learn nothing."""
    projection = glm.config.hidden_size if settings.prefix_projection else None
    prefix = Prefix(glm.config, settings.prefix_length, projection=projection, dropout=settings.prefix_dropout)
    prefix.initialise(settings.prefix_std)
    table = prefix.table()
    if not torch.isfinite(table).all() or not table.std() > 0:
        raise StudioError("runs.bad_start")
    return prefix


def _attach_prefix(glm: GlmForCausalLM, settings: Settings, warm: Path | None) -> None:
    glm.requires_grad_(False)
    prefix = fresh_prefix(glm, settings) if warm is None else load_prefix(warm, glm)
    prefix.dropout.p = settings.prefix_dropout
    attach_prefix(glm, prefix)


def _restore_prefix(glm: GlmForCausalLM, folder: Path) -> None:
    try:
        glm.prefix.load_state_dict(load_prefix(folder, glm).state_dict())
    except RuntimeError as error:
        raise StudioError("adapters.other_model", folder=str(folder)) from error


def _finish_prefix(glm: GlmForCausalLM, folder: Path, model: Model) -> None:
    save_prefix(glm, folder, base=model.name)
    if has_published_layout(glm.config):
        save_official(glm, folder / "official")


def _attach_lora(glm: GlmForCausalLM, settings: Settings, warm: Path | None) -> None:
    if warm is not None:
        if read_table(warm / "adapter_config.json").get("peft_type") != "LORA":
            raise StudioError("runs.warm_kind", folder=str(warm))
        load_lora(warm, glm, dropout=settings.lora_dropout)
        return
    targets = EVERY if settings.lora_targets == "all" else ATTENTION
    attach_lora(glm, Lora(settings.lora_rank, settings.lora_alpha, settings.lora_dropout, targets))


def _attach_whole(glm: GlmForCausalLM, _: Settings, warm: Path | None) -> None:
    if warm is not None:
        raise StudioError("runs.warm_kind", folder=str(warm))
    glm.requires_grad_(True)


METHODS = {
    "ptuning_v2": Method(
        _attach_prefix,
        AdapterFiles(
            lambda glm, folder, model: save_prefix(glm, folder, base=model.name), _restore_prefix, _finish_prefix
        ),
    ),
    "lora": Method(
        _attach_lora,
        AdapterFiles(
            lambda glm, folder, model: save_lora(glm, folder, base=model.name),
            restore_lora,
            lambda glm, folder, model: save_lora(glm, folder, base=model.name),
        ),
    ),
    "full": Method(_attach_whole),
}
