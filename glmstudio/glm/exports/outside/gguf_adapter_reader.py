"""An adapter in GGUF read with numpy and gguf alone: `python -I THIS_FILE FILE TOLD`.

TOLD gets for each layer what its matrices add for one vector: cos(0), cos(1), and so on.
"""

from __future__ import annotations

import sys

import numpy as np
from gguf import GGUFReader


def main(file: str, told: str) -> None:
    """As above."""
    reader = GGUFReader(file)
    if [reader.fields[f"{key}"].contents() for key in ("general.type", "adapter.type")] != ["adapter", "lora"]:
        raise SystemExit("the file is no adapter")
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    alpha = reader.fields["adapter.lora.alpha"].contents()
    made = {}
    for name in (name for name in tensors if name.endswith(".lora_a")):
        layer = name.removesuffix(".lora_a")
        down, up = tensors[name], tensors[f"{layer}.lora_b"]
        probe = np.cos(np.arange(down.shape[1], dtype=np.float32))
        made[layer] = up @ (down @ probe) * (alpha / len(down))
    np.savez(told, **made)


if __name__ == "__main__":
    main(*sys.argv[1:3])
