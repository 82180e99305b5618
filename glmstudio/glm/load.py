"""The one way to a model: `load_model`."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GlmForCausalLM

from glmstudio.glm.adapters.adapter_files import attach_adapter, load_prefix
from glmstudio.glm.adapters.prefix import attach_prefix
from glmstudio.glm.quantization import quantize
from glmstudio.glm.weights.base_weights import in_words, load_base


def load_model(
    path: str | Path,
    adapter: str | Path | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    bits: int = 16,
) -> GlmForCausalLM:
    """Transformers' native GLM from a ChatGLM3 folder, with a prefix or without; no remote code.

    Args:
        path: A published folder (6B, Base, 32K; `.bin` or safetensors, one file or shards) or the demo's.
        adapter: A prefix (any of the forms of `glm.adapters.adapter_files`), a LoRA adapter, or None for the base.
        dtype: The weights' type; None takes the one that suits the device (`best_dtype`).
        device: Where the weights go; None takes the first GPU, else the CPU.
        bits: 8 or 4 store the base's linear layers smaller (`glmstudio.glm.quantization`).

    Raises:
        StudioError: The folder or the adapter is wrong or missing; it names the file and the remedy.
    """
    with in_words(Path(path)):
        return _loaded(Path(path), Path(adapter) if adapter is not None else None, dtype, device, bits)


def _loaded(
    path: Path, adapter: Path | None, dtype: torch.dtype | None, device: str | torch.device | None, bits: int
) -> GlmForCausalLM:
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = dtype or best_dtype(place)
    if bits < 16:  # as they are stored, still in their files: each layer becomes small by itself
        model = load_base(path, dtype=None, device=torch.device("cpu"))
        quantize(model, bits, place, kind)
    else:
        model = load_base(path, dtype=kind, device=place)
    if model.holds_prefix:  # a checkpoint of P-Tuning with the whole model: without its prefix it would be another
        attach_prefix(model, load_prefix(path, model).eval())
    if adapter is not None:
        with in_words(adapter):
            attach_adapter(model, adapter)
    return model


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the GPU computes in it (Ampere and later), float16 on older GPUs, float32 on the CPU, where
    16-bit arithmetic is emulated and some 30 times slower."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
