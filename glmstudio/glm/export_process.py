"""The child process of an export: `python -m glmstudio.glm.export_process MODEL NAME SOURCE FORM OUT`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.glm.adapters.adapter_files import save_official, save_peft
from glmstudio.glm.adapters.lora import merge_lora
from glmstudio.glm.load import load_model
from glmstudio.glm.weights.whole_model import save_whole


def main(model: Path, name: str, source: Path, form: str, out: Path) -> int:
    """Write what lies in `source`, tuned on `model` (called `name`), in `form` to `out`; tells stdout of a problem."""
    told: dict[str, Any] = {}
    try:
        export(model, name, source, form, out)
    except StudioError as problem:
        told = {"problem": problem.to_json()}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def export(model: Path, name: str, source: Path, form: str, out: Path) -> None:
    """As `main`. Raises StudioError."""
    whole = (source / "config.json").is_file() and not (source / "adapter.json").is_file()
    if whole:
        save_whole(load_model(source, dtype=torch.float32, device="cpu"), out, base=model, dtype=torch.float16)
        return
    is_lora = read_table(source / "adapter_config.json").get("peft_type") == "LORA"
    if form == "peft" and is_lora:
        out.mkdir(parents=True)
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(source / file, out / file)
        return
    # The published numbers are 16-bit: as such they stay mapped, and 12 GB need not fit the memory twice.
    glm = load_model(model, source, dtype=torch.float16 if form == "merged" else torch.float32, device="cpu")
    if form == "official":
        save_official(glm, out)
    elif form == "peft":
        save_peft(glm, out, base=name)
    else:
        merge_lora(glm)
        save_whole(glm, out, base=model, dtype=torch.float16)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4], Path(sys.argv[5])))
