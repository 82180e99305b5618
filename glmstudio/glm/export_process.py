"""The child process of an export: `python -m glmstudio.glm.export_process REQUEST`, the request as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from glmstudio.errors import StudioError, refused
from glmstudio.files import read_table, write_json
from glmstudio.glm.adapters.adapter_files import save_official, save_peft
from glmstudio.glm.adapters.lora import merge_lora
from glmstudio.glm.exports.for_engines import export_gguf, export_gguf_adapter, export_native, finish_peft
from glmstudio.glm.load import load_model
from glmstudio.glm.weights.base_weights import empty_base
from glmstudio.glm.weights.model_config import has_published_layout
from glmstudio.glm.weights.whole_model import save_whole
from glmstudio.models.exports.export_request import GGUF, GGUF_LORA, NATIVE, PEFT, ExportRequest
from glmstudio.system.die_with_parent import tie

_FOR_ENGINES: dict[str, Callable[[ExportRequest], None]] = {
    NATIVE: export_native,
    GGUF: export_gguf,
    GGUF_LORA: export_gguf_adapter,
}


def main(request: str) -> int:
    """Write what is asked for; tells stdout of a problem."""
    tie()  # who asked removes what is half written, so nobody writes on without him
    told: dict[str, Any] = {}
    try:
        export(ExportRequest.from_json(request))
    except StudioError as problem:
        told = {"problem": problem.to_json()}
    except OSError as error:
        told = {"problem": refused(error).to_json()}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def export(request: ExportRequest) -> None:
    """As `main`. Raises StudioError, and OSError where the system refuses."""
    if request.form in _FOR_ENGINES:
        _FOR_ENGINES[request.form](request)
        return
    model, source, out = Path(request.model), Path(request.learned), Path(request.out)
    whole = (source / "config.json").is_file() and not (source / "adapter.json").is_file()
    if whole:
        save_whole(load_model(source, dtype=torch.float32, device="cpu"), out, base=model, dtype=torch.float16)
    elif request.form == PEFT:
        _write_peft(request)
    else:
        # The published numbers are 16-bit: as such they stay mapped, and 12 GB need not fit the memory twice.
        merged = request.form == "merged"
        if not merged and not has_published_layout(empty_base(model).config):
            raise StudioError("exports.official")
        glm = load_model(model, source, dtype=torch.float16 if merged else torch.float32, device="cpu")
        if merged:
            merge_lora(glm)
            save_whole(glm, out, base=model, dtype=torch.float16)
        else:
            save_official(glm, out)


def _write_peft(request: ExportRequest) -> None:
    source, out = Path(request.learned), Path(request.out)
    about = read_table(source / "adapter_config.json")
    base = request.native_base or request.name
    if about.get("peft_type") == "LORA":
        out.mkdir(parents=True)
        write_json(out / "adapter_config.json", about | {"base_model_name_or_path": base})
        shutil.copyfile(source / "adapter_model.safetensors", out / "adapter_model.safetensors")
    else:
        save_peft(load_model(Path(request.model), source, dtype=torch.float32, device="cpu"), out, base=base)
    finish_peft(request, base)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
