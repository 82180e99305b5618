"""A LoRA adapter as a GGUF file, for `llama-server --lora`: the base file once, adapters of some MB after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter
from gguf.constants import Keys

from glmstudio.errors import StudioError
from glmstudio.glm.adapters.lora import Lora
from glmstudio.glm.adapters.lora_files import read_lora
from glmstudio.glm.exports.gguf_file import ARCHITECTURES, gguf_name
from glmstudio.glm.exports.self_check import OUTSIDE, outside_place, run_outside
from glmstudio.glm.weights.base_weights import empty_base

_CLOSE = 1e-5  # of the largest number


def write_gguf_adapter(base: Path, adapter: Path, file: Path, *, title: str) -> float:
    """Write the adapter, which is for the model in `base`, and let another program read it.

    Returns the largest difference of what the matrices make of a vector. Raises StudioError where that is no rounding.
    """
    config = empty_base(base).config
    lora, matrices = read_lora(adapter, config)
    writer = GGUFWriter(file, ARCHITECTURES[config.model_type])
    writer.add_type("adapter")
    writer.add_name(title)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, lora.alpha)
    for name, each in matrices.items():
        layer, _, which = name.removesuffix(".weight").partition(".lora_")
        writer.add_tensor(f"{gguf_name(f'{layer}.weight')}.lora_{which.lower()}", each.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return _checked(lora, matrices, file)


def _checked(lora: Lora, matrices: dict[str, torch.Tensor], file: Path) -> float:
    with outside_place() as place:
        run_outside(OUTSIDE / "gguf_adapter_reader.py", [str(file), str(place / "told.npz")])
        with np.load(place / "told.npz", allow_pickle=False) as arrays:
            found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    worst = 0.0
    layers = [name.removesuffix(".lora_A.weight") for name in matrices if name.endswith(".lora_A.weight")]
    if found.keys() != {gguf_name(f"{layer}.weight") for layer in layers}:
        raise StudioError("exports.other_logits", difference="?", allowed="0")
    for layer in layers:
        down, up = matrices[f"{layer}.lora_A.weight"], matrices[f"{layer}.lora_B.weight"]
        probe = torch.cos(torch.arange(down.shape[1], dtype=torch.float32))
        own = up @ (down @ probe) * (lora.alpha / lora.rank)
        difference = float((own - found[gguf_name(f"{layer}.weight")]).abs().max())
        close = _CLOSE * max(1.0, float(own.abs().max()))
        if not difference <= close:
            raise StudioError("exports.other_logits", difference=f"{difference:.2g}", allowed=f"{close:.2g}")
        worst = max(worst, difference)
    return worst
