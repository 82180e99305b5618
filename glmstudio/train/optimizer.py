"""The optimizer, accelerate set up for it, and what a checkpoint holds besides the weights.

The files have the names and the content that transformers' Trainer gives them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from torch import nn
from transformers import GlmForCausalLM
from transformers.trainer_pt_utils import safe_globals

from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.strategies.base import ShardingStrategy

_LAST = re.compile(r"bias|layernorm|(^|\.)norm\.")


def adamw(model: nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW for what learns in the model. Nothing decays, but there are two groups, biases and norms last: in this
    order `optimizer.pt` counts the parameters."""
    learning = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    groups = [[each for name, each in learning if bool(_LAST.search(name)) is last] for last in (False, True)]
    fused = torch.__version__ >= "2.8"  # as transformers chooses
    return torch.optim.AdamW([{"params": group} for group in groups], lr=rate, weight_decay=0.0, fused=fused)


def make_accelerator(glm: GlmForCausalLM, strategy: ShardingStrategy) -> Accelerator:
    """An Accelerator for this process. Gradients are accumulated by the loop: how many packs a step has varies."""
    AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001  it outlives a training of this process
    plugin = strategy.deepspeed_plugin()
    PartialState(cpu=glm.device.type != "cuda")
    ddp = DistributedDataParallelKwargs(find_unused_parameters=False, broadcast_buffers=False)  # no buffer changes
    return Accelerator(mixed_precision=_precision(glm, strategy), deepspeed_plugin=plugin, kwargs_handlers=[ddp])


def _precision(glm: GlmForCausalLM, strategy: ShardingStrategy) -> str:
    """What autocast computes in. Adapters compute in the type of their base."""
    if glm.device.type != "cuda" or not strategy.autocast:
        return "no"
    if strategy.settings.method == "full":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "fp16" if glm.dtype == torch.float16 else "no"


def save_states(folder: Path, context: DistributedContext, states: Mapping[str, Any]) -> None:
    """Write the states under their names, and the random numbers of each process; all processes call it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, each in states.items() if context.first else ():
        torch.save(each.state_dict(), folder / name)
    numbers = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        numbers["cuda"] = torch.cuda.get_rng_state() if context.world == 1 else torch.cuda.get_rng_state_all()
    torch.save(numbers, folder / _random_file(context))


def restore_states(folder: Path, context: DistributedContext, states: Mapping[str, Any]) -> None:
    """Read them back. Where another number of processes wrote them, the random numbers begin anew."""
    for name, each in states.items():
        each.load_state_dict(torch.load(folder / name, map_location="cpu", weights_only=True))
    if (folder / _random_file(context)).is_file():
        with safe_globals():
            numbers = torch.load(folder / _random_file(context), weights_only=True)
        random.setstate(numbers["python"])
        np.random.set_state(numbers["numpy"])
        torch.set_rng_state(numbers["cpu"])
        if torch.cuda.is_available() and "cuda" in numbers:
            (torch.cuda.set_rng_state if context.world == 1 else torch.cuda.set_rng_state_all)(numbers["cuda"])


def _random_file(context: DistributedContext) -> str:
    return "rng_state.pth" if context.world == 1 else f"rng_state_{context.rank}.pth"
