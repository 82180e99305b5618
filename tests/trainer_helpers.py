"""The trainer that a run uses, on any model and any examples: what the tests and the measurements share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GlmForCausalLM, set_seed

from glmstudio.config.settings import Settings
from glmstudio.data.protocol.prompt import IGNORED, Example
from glmstudio.files import write_json
from glmstudio.glm import load_model
from glmstudio.models.library import Model
from glmstudio.train.batches import Examples
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.methods import METHODS, checkpoint_layers
from glmstudio.train.model_with_loss import ModelWithLoss
from glmstudio.train.run_reporter import RunReporter
from glmstudio.train.shared_prefix import Prompts
from glmstudio.train.strategies.base import ShardingStrategy
from glmstudio.train.trainer import Trainer, TrainingJob


class Listed(Examples):
    """Examples that are simply at hand, in place of those of a token store."""

    def __init__(self, examples: Sequence[Example], prompts: Prompts | None = None) -> None:
        self._examples, self.prompts = examples, prompts
        self.lengths = np.array([len(each.input_ids) for each in examples])

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._examples[index]
        return {"input_ids": torch.tensor(example.input_ids), "labels": torch.tensor(example.labels)}

    def scored(self, index: int) -> int:
        return sum(label != IGNORED for label in self._examples[index].labels[1:])


def prepared(
    model: Path, settings: Settings, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> GlmForCausalLM:
    """A model with what `settings` puts on it, ready to learn, as `glmstudio.train.worker` makes it."""
    set_seed(settings.seed)
    glm = load_model(model, dtype=dtype, device=device)
    METHODS[settings.method].attach(glm, settings, None)
    glm.train()
    checkpoint_layers(glm, settings)
    return glm


def loss_and_gradients(
    model: Path, settings: Settings, packs: Iterable[dict[str, Any]]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of all packs together, and the gradient of everything that learns."""
    glm = prepared(model, settings)
    for name, each in glm.named_parameters():
        if "lora_B" in name:  # zero at the start: then A has no gradient
            torch.nn.init.normal_(each, std=0.1, generator=torch.Generator().manual_seed(1))
    scored, loss = ModelWithLoss(glm), torch.zeros(())
    for pack in packs:
        part = scored(**{name: given for name, given in pack.items() if name != "tokens"})["loss"]
        part.backward()
        loss += part.detach()
    gradients = {name: each.grad for name, each in glm.named_parameters() if each.grad is not None}
    assert len(gradients) == sum(each.requires_grad for each in glm.parameters())
    return loss, gradients


def trainer_for(
    glm: GlmForCausalLM, settings: Settings, examples: Sequence[Example], folder: Path, prompts: Prompts | None = None
) -> Trainer:
    """Its trainer, which reports to `folder`."""
    write_json(folder / "run.json", {})
    base, context = Model(settings.model, settings.model, folder, "local", 0, None), DistributedContext()
    reporter, strategy = RunReporter(folder, settings.steps, context), ShardingStrategy(settings, context)
    given = Listed(examples, prompts)
    job = TrainingJob(settings, base, folder, given, None, reporter, lambda step: None, context, strategy)
    return Trainer(glm, job)
