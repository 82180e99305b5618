"""PyTorch's FSDP2: every process holds a slice of each weight, of its gradient and of what the optimizer remembers.

Applied here and not by accelerate, which would quietly train without dividing anything where there is no GPU.
Gradients are divided after every pack: held back until the end of a step, they would be as large as the whole model.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import GlmForCausalLM

from glmstudio.glm.weights.base_weights import empty_base, set_angles, tie_head
from glmstudio.train.distributed.context import backend
from glmstudio.train.distributed.rendezvous import meet_alone
from glmstudio.train.strategies.base import ShardingStrategy


class FSDPStrategy(ShardingStrategy):
    """The model divided layer by layer. Computed in bfloat16 on a GPU that can, else in float32."""

    starts_empty = True
    autocast = False  # the precision is FSDP's
    _mesh: DeviceMesh

    def build(self, folder: Path) -> GlmForCausalLM:
        """The model with this process's slices only, and no numbers in them yet."""
        meet_alone(backend())
        self._mesh = init_device_mesh(self.device.type, (self.context.world,))
        glm = empty_base(folder)
        self.shapes = {name: parameter.shape for name, parameter in glm.named_parameters()}
        embedding, ends = glm.model.embed_tokens, [glm.model.norm, glm.lm_head]
        # A head that is the embedding is gathered with it, and stays at hand from the first layer to the loss.
        outer = ([embedding, *ends],) if glm.config.tie_word_embeddings else (embedding, ends)
        for part in (*glm.model.layers, *outer):
            fully_shard(part, mesh=self._mesh, mp_policy=self._policy())
        glm.to_empty(device=self.device)
        tie_head(glm)
        set_angles(glm, self.device)
        return glm.requires_grad_(True)

    def divide(self, scored: nn.Module) -> None:
        """Make it the root that leads the others, and keep accelerate from wrapping it in DDP."""
        fully_shard(scored, mesh=self._mesh, mp_policy=self._policy())
        scored._is_accelerate_prepared = True  # noqa: SLF001 (accelerate's own mark, and the only one it looks for)

    def _policy(self) -> MixedPrecisionPolicy:
        small = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return MixedPrecisionPolicy(param_dtype=torch.bfloat16 if small else None, reduce_dtype=torch.float32)

    def _check(self, wrapped: nn.Module) -> None:
        self._demand(wrapped, FSDPModule)
        for parameter in wrapped.parameters():
            self._demand(parameter, DTensor)

    def _full(self, held: torch.Tensor) -> torch.Tensor:
        return held.full_tensor()

    def _fill(self, held: torch.Tensor, value: torch.Tensor) -> None:
        slices = value.chunk(self.context.world)  # as FSDP cuts: by rows, and the last processes may get none
        if self.context.rank < len(slices):
            held.to_local().copy_(slices[self.context.rank])
