"""DeepSpeed's ZeRO: optimizer and gradients divided (stage 2), the weights too (stage 3), or kept in main memory.

Its own checkpoints are never used: they are pickles, and tied to a number of processes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import DeepSpeedPlugin
from torch import nn
from transformers import GlmForCausalLM, initialization
from transformers.integrations import HfDeepSpeedConfig

from glmstudio.config.deepspeed import search_path
from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.glm.weights.base_weights import empty_base, native_model, set_angles, tie_head
from glmstudio.train.distributed.context import DistributedContext, backend
from glmstudio.train.distributed.rendezvous import meet_alone
from glmstudio.train.strategies.base import WEIGHT, ShardingStrategy, adam_state


class ZeroStrategy(ShardingStrategy):
    """A 16-bit model on a GPU that computes, float32 numbers that learn, divided among the processes."""

    starts_empty = True

    def __init__(self, settings: Settings, context: DistributedContext) -> None:
        super().__init__(settings, context)
        self._deepspeed = _deepspeed()
        self._divided = settings.engine != "zero2"  # the weights, too

    def build(self, folder: Path) -> GlmForCausalLM:
        """The model in the type that it computes in, with no numbers in it yet."""
        meet_alone(backend())
        glm = empty_base(folder)
        self.shapes = {name: parameter.shape for name, parameter in glm.named_parameters()}
        if self._divided:
            # The type stands in the settings: named here, DeepSpeed 0.19 replaces float32 on a CPU by bfloat16.
            with self._deepspeed.zero.Init(config_dict_or_path=self._config()), initialization.no_init_weights():
                glm = native_model(glm.config)
        else:
            glm = glm.to(self._dtype()).to_empty(device=self.device)
        tie_head(glm)
        set_angles(glm, self.device)
        return glm.requires_grad_(True)

    def deepspeed_plugin(self) -> DeepSpeedPlugin:
        """As in every strategy. transformers' class also has its `generate` run in step on all processes."""
        self._deepspeed.utils.logger.setLevel("WARNING")
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"  # accelerate's own switch, which it reads before the plugin
        return DeepSpeedPlugin(hf_ds_config=HfDeepSpeedConfig(self._config()))

    def _config(self) -> dict[str, Any]:
        """DeepSpeed's settings. Adam is PyTorch's: DeepSpeed's own for the main memory would have to be compiled."""
        settings, on_gpu = self.settings, self.device.type == "cuda"
        zero: dict[str, Any] = {"stage": 3 if self._divided else 2, "overlap_comm": on_gpu}
        if settings.engine == "zero3_offload":
            place = {"device": "cpu", "pin_memory": on_gpu}
            zero |= {"offload_optimizer": place, "offload_param": place}
        return {
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "bf16": {"enabled": self._dtype() is torch.bfloat16, "check_grad_overflow": True},
            "fp16": {"enabled": self._dtype() is torch.float16},
            "gradient_clipping": settings.max_grad_norm,
            "train_micro_batch_size_per_gpu": settings.batch_size,
            "gradient_accumulation_steps": 1,  # the loop tells accelerate which pack is a step's last one
        }

    def bind(self, wrapped: nn.Module, glm: GlmForCausalLM, optimizer: Any) -> None:
        """As in every strategy; what DeepSpeed's optimizer would make at its first step is made now, to be filled."""
        super().bind(wrapped, glm, optimizer)
        zero = self._optimizer
        masters = zero.fp32_partitioned_groups_flat if self._divided else zero.single_partition_of_fp32_groups
        inner = zero.optimizer
        for master in masters:
            inner.state[master].update(adam_state(master, fused=bool(inner.defaults.get("fused"))))
        if not self._divided:
            zero._lazy_init_hp_params_optimizer_state()  # noqa: SLF001 (no other way to them before the first step)
        self._optimizer = inner

    def get(self, name: str, kind: str) -> torch.Tensor:
        """As in every strategy."""
        utils, parameter = self._deepspeed.utils, self._parameters[name]
        if kind == WEIGHT:
            return utils.safe_get_full_fp32_param(parameter)
        return utils.safe_get_full_optimizer_state(parameter, kind)

    def put(self, name: str, kind: str, value: torch.Tensor) -> None:
        """As in every strategy; a weight also becomes what the next batch is computed with."""
        utils, parameter = self._deepspeed.utils, self._parameters[name]
        with torch.no_grad():
            if not self._divided:
                if kind == WEIGHT:
                    utils.safe_set_full_fp32_param(parameter, value)
                    parameter.copy_(value)
                else:
                    utils.safe_set_full_optimizer_state(parameter, value, kind)
                return
            if kind == WEIGHT:
                utils.safe_set_local_fp32_param(parameter, self._own_slice(parameter, value))
                with self._deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                    parameter.copy_(value)
            else:
                utils.safe_set_local_optimizer_state(parameter, self._own_slice(parameter, value), kind)

    def _own_slice(self, parameter: nn.Parameter, value: torch.Tensor) -> torch.Tensor:
        """This process's numbers, filled up with zeros: all slices are equally long."""
        length = self._deepspeed.utils.safe_get_local_fp32_param(parameter).numel()
        own = value.flatten()[length * self.context.rank : length * (self.context.rank + 1)]
        return torch.cat([own, own.new_zeros(length - own.numel())])

    def _dtype(self) -> torch.dtype:
        if self.device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16

    def _check(self, wrapped: nn.Module) -> None:
        self._demand(wrapped, self._deepspeed.DeepSpeedEngine)


def _deepspeed() -> Any:
    os.environ["PATH"] = search_path()
    try:
        import deepspeed
    except ModuleNotFoundError as error:
        raise StudioError("engines.no_deepspeed") from error
    except Exception as error:  # its import looks at compilers and drivers, and says what it misses in its own classes
        raise StudioError("engines.deepspeed_broken", reason=str(error)) from error
    return deepspeed


def main() -> int:
    """Whether DeepSpeed loads, as `glmstudio.jobs.json_child.ask` wants to be told."""
    told: dict[str, Any] = {}
    try:
        _deepspeed()
    except StudioError as problem:
        told = {"problem": problem.to_json()}
    sys.stdout.write("\n" + json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
