"""What is to be exported, as the page or a command asks for it and the child process that writes it reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from glmstudio.errors import StudioError

NATIVE, GGUF, GGUF_LORA, PEFT = "native", "gguf", "gguf-lora", "peft"
TOOL_PARSER = "chatglm3_tool_parser.py"  # vLLM's plugin, in a native folder
K_QUANTS = ("q4_k_m", "q5_k_m", "q6_k")  # llama.cpp's own program makes those
TYPES = {NATIVE: ("float16", "bfloat16", "float32"), GGUF: ("q8_0", "f16", *K_QUANTS)}  # the first is taken unasked


@dataclass(frozen=True)
class ExportRequest:
    """`form` of the model in the folder `model` (called `name`), or of what lies in `learned` on it, to the new
    folder `out`.

    `kind` is the type of the weights, `native_base` the folder of the same model for transformers, where there is one,
    `title` what it will be called, and `card` what is known of it (`glm.exports.model_card`).
    """

    form: str
    model: str
    name: str
    out: str
    title: str
    learned: str = ""
    kind: str = ""
    native_base: str = ""
    card: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """For the child's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ExportRequest:
        """What `to_json` wrote."""
        return cls(**json.loads(text))


def checked_type(form: str, kind: str) -> str:
    """The type of an export's weights; the usual one where none was asked for. Raises StudioError for one it cannot
    have."""
    known = TYPES.get(form, ())
    if kind and kind.lower() not in known:
        raise StudioError("exports.no_such_type", form=form, kind=kind, kinds=", ".join(known) or "–")
    return kind.lower() or (known[0] if known else "")
