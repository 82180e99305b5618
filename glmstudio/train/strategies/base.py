"""How the processes of a run divide the model: not at all (plain, DDP), or by a strategy of its own module.

`full_state` reads and writes the numbers through `ShardingStrategy.get` and `ShardingStrategy.put`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import DeepSpeedPlugin
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import GlmConfig, GlmForCausalLM

from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.glm.load import load_model
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.methods import weights_type

WEIGHT = "weight"
MOMENTS = ("exp_avg", "exp_avg_sq")


class ShardingStrategy:
    """Every process holds the whole model: one process alone, or DDP.

    Its life: `build` the model, `divide` what is trained, `bind` once accelerate has prepared it. `get`, `put` and
    `step` are for full fine-tuning, after `bind`.
    """

    starts_empty = False  # whether the model comes without its numbers, to be filled in after `bind`
    autocast = True  # whether accelerate cares for the type that is computed in

    def __init__(self, settings: Settings, context: DistributedContext) -> None:
        self.settings, self.context = settings, context
        self.config: GlmConfig = None
        self.shapes: dict[str, torch.Size] = {}  # native name to the full tensor's shape
        self._parameters: dict[str, nn.Parameter] = {}
        self._optimizer: Any = None

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")

    def build(self, folder: Path) -> GlmForCausalLM:
        """The model of a published folder, as this process will hold it. Raises StudioError."""
        return load_model(folder, dtype=weights_type(self.settings), bits=int(self.settings.base_bits))

    def divide(self, scored: nn.Module) -> None:
        """Prepare the module that computes the loss, before accelerate gets it."""

    def deepspeed_plugin(self) -> DeepSpeedPlugin | None:
        """How accelerate has to set DeepSpeed up, where it is used."""
        return None

    def bind(self, wrapped: nn.Module, glm: GlmForCausalLM, optimizer: Any) -> None:
        """Take what accelerate prepared. Raises StudioError where it is divided otherwise than it was asked for."""
        self._check(wrapped)
        self.config = glm.config
        self._parameters = dict(glm.named_parameters())
        self.shapes = self.shapes or {name: each.shape for name, each in self._parameters.items()}
        self._optimizer = getattr(optimizer, "optimizer", optimizer)

    def get(self, name: str, kind: str) -> torch.Tensor:
        """The full float32 tensor, in every process; all call it together. `kind`: WEIGHT or one of MOMENTS."""
        return self._full(self._held(name, kind))

    def put(self, name: str, kind: str, value: torch.Tensor) -> None:
        """Set it; `value` is the full tensor, the same in every process."""
        with torch.no_grad():
            self._fill(self._held(name, kind), value)

    @property
    def step(self) -> int:
        """How many steps the optimizer has made."""
        return max((int(state["step"]) for state in self._optimizer.state.values()), default=0)

    @step.setter
    def step(self, step: int) -> None:
        for state in self._optimizer.state.values():
            state["step"].fill_(step)

    def _check(self, wrapped: nn.Module) -> None:
        self._demand(wrapped, DistributedDataParallel if self.context.world > 1 else nn.Module)

    def _demand(self, wrapped: Any, kind: type) -> None:
        if not isinstance(wrapped, kind):
            raise StudioError("engines.not_used", engine=self.settings.engine, found=type(wrapped).__name__)

    def _held(self, name: str, kind: str) -> torch.Tensor:
        parameter = self._parameters[name]
        if kind == WEIGHT:
            return parameter.detach()
        state = self._optimizer.state[parameter]
        if not state:
            state.update(adam_state(parameter, fused=bool(self._optimizer.defaults.get("fused"))))
        return state[kind]

    def _full(self, held: torch.Tensor) -> torch.Tensor:
        return held

    def _fill(self, held: torch.Tensor, value: torch.Tensor) -> None:
        held.copy_(value)


def adam_state(parameter: torch.Tensor, *, fused: bool) -> dict[str, torch.Tensor]:
    """What Adam holds of a parameter before its first step, which it would make for itself then."""
    place = parameter.device if fused else torch.device("cpu")
    moments = {kind: torch.zeros_like(parameter, memory_format=torch.preserve_format) for kind in MOMENTS}
    return {"step": torch.zeros((), dtype=torch.float32, device=place), **moments}
