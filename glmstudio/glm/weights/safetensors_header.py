"""How a safetensors file begins, for files that are written as a stream."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping

_BYTES = {"F16": 2, "BF16": 2, "F32": 4}


def safetensors_header(shapes: Mapping[str, tuple[int, ...]], code: str) -> tuple[bytes, int]:
    """The start of a file with these tensors of one type, in this order, and the bytes of the tensors that follow."""
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + _BYTES[code] * math.prod(shape)
        table[name] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(table, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)  # so that the tensors begin where a processor reads them well
    return struct.pack("<Q", len(text)) + text, end
