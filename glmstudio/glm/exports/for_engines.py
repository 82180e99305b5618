"""The exports that other programs serve: each is written, read by another program, compared, and described."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import torch

from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_text
from glmstudio.glm.exports.chat_templates import kept_apart
from glmstudio.glm.exports.gguf_adapter import write_gguf_adapter
from glmstudio.glm.exports.gguf_file import HIDES, rounded, write_gguf, write_tools_template
from glmstudio.glm.exports.model_card import model_card
from glmstudio.glm.exports.modelfile import modelfile
from glmstudio.glm.exports.native_folder import write_native
from glmstudio.glm.exports.reference_answers import ExportSource, reference_answers
from glmstudio.glm.exports.self_check import GGUF, TRANSFORMERS, check_with
from glmstudio.glm.exports.weight_stream import WeightStream
from glmstudio.models.exports.export_request import K_QUANTS, ExportRequest

QUANTIZER = "llama-quantize"


def export_native(request: ExportRequest) -> None:
    """A folder for transformers. Raises StudioError."""
    source, out = _source(request), Path(request.out)
    dtype = write_native(WeightStream(source.whole, source.adapter), out, request.kind)
    kind = getattr(torch, dtype)
    reference = reference_answers(source, lambda tensor: tensor.to(kind))
    checked = check_with(TRANSFORMERS, out, reference)
    write_text(out / "README.md", model_card(request, checked, kind=dtype))


def export_gguf(request: ExportRequest) -> None:
    """A folder with one GGUF file, and what llama.cpp and Ollama need beside it. Raises StudioError."""
    source, out = _source(request), Path(request.out)
    quantizer = shutil.which(QUANTIZER)
    kind = "f16" if request.kind in K_QUANTS else request.kind
    file, wanted = out / f"{request.title}-{kind}.gguf", out / f"{request.title}-{request.kind}.gguf"
    if file != wanted and quantizer is None:
        line = shlex.join([QUANTIZER, file.name, wanted.name, request.kind.upper()])
        raise StudioError("exports.no_quantizer", kind=request.kind, line=line)
    out.mkdir(parents=True)
    vocabulary = write_gguf(WeightStream(source.whole, source.adapter), file, kind, title=request.title)
    write_tools_template(out, vocabulary)
    reference = reference_answers(
        source, lambda tensor: rounded(kind, tensor), spelled=lambda text: kept_apart(text, HIDES, vocabulary.family)
    )
    checked = check_with(GGUF, file, reference)
    if file != wanted and quantizer is not None:
        _quantize(quantizer, file, wanted, request.kind)
        file.unlink()
    write_text(out / "Modelfile", modelfile(wanted.name, vocabulary))
    write_text(out / "README.md", model_card(request, checked, kind=kind, file=wanted.name))


def export_gguf_adapter(request: ExportRequest) -> None:
    """A folder with the adapter as a GGUF file. Raises StudioError."""
    out = Path(request.out)
    out.mkdir(parents=True)
    file = out / f"{request.title}.gguf"
    difference = write_gguf_adapter(Path(request.model), Path(request.learned), file, title=request.title)
    write_text(out / "README.md", model_card(request, None, file=file.name, difference=difference))


def finish_peft(request: ExportRequest, base: str) -> None:
    """Check a PEFT adapter on the exported base, if there is one, and describe it. Raises StudioError."""
    out = Path(request.out)
    checked = None
    if request.native_base:
        kind = getattr(torch, str(read_table(Path(request.native_base) / "config.json").get("dtype", "float16")))
        reference = reference_answers(_source(request), lambda tensor: tensor.to(kind), merge=False)
        checked = check_with(TRANSFORMERS, Path(request.native_base), reference, adapter=out)
    write_text(out / "README.md", model_card(request, checked, file=base))


def _source(request: ExportRequest) -> ExportSource:
    return ExportSource(Path(request.model), Path(request.learned) if request.learned else None)


def _quantize(program: str, file: Path, wanted: Path, kind: str) -> None:
    done = subprocess.run(
        [program, str(file), str(wanted), kind.upper()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not wanted.is_file():
        raise StudioError("exports.quantizer_failed", reason=(done.stderr.strip() or str(done.returncode))[-300:])
