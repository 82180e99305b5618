"""Adapters of the demo model for tests: made of random numbers, so that each answers in its own way."""

from __future__ import annotations

from pathlib import Path

import torch

from glmstudio.glm.adapters.adapter_files import save_prefix
from glmstudio.glm.adapters.lora import ATTENTION, Lora, attach_lora
from glmstudio.glm.adapters.lora_files import save_lora
from glmstudio.glm.adapters.prefix import Prefix, attach_prefix
from glmstudio.glm.load import load_model
from glmstudio.paths import DEMO

BASE = DEMO / "model"


def prefix(folder: Path, seed: int, std: float = 3.0) -> Path:
    """A prefix of six tokens."""
    torch.manual_seed(seed)
    model = load_model(BASE, device="cpu")
    made = Prefix(model.config, 6)
    made.initialise(std)
    attach_prefix(model, made)
    save_prefix(model, folder, base="demo")
    return folder


def lora(folder: Path, seed: int, std: float = 0.3) -> Path:
    """A LoRA adapter of rank 4."""
    torch.manual_seed(seed)
    model = load_model(BASE, device="cpu")
    attach_lora(model, Lora(4, 8.0, 0.0, ATTENTION))
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.normal_(std=std)
    save_lora(model, folder, base="demo")
    return folder
