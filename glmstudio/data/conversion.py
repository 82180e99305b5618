"""ToolAlpaca's `train_data.json` as official multi-turn records, record for record as the original converter.

The original drops what it cannot convert without a word; here each dropped instance comes back with its reason.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.data.formats.toolalpaca import from_toolalpaca
from glmstudio.data.readers.values import read_values
from glmstudio.data.records import Problem
from glmstudio.errors import StudioError
from glmstudio.files import write_text


@dataclass(frozen=True)
class Conversion:
    """How many records were written, and what was left out."""

    records: int
    dropped: tuple[Problem, ...]


def convert_toolalpaca(source: str | Path, target: str | Path) -> Conversion:
    """Write the records of `source` to `target` (`.jsonl`), whole or not at all. Raises StudioError."""
    lines: list[str] = []
    dropped: list[Problem] = []
    for line, api in read_values(Path(source)):
        for found in [api] if isinstance(api, StudioError) else from_toolalpaca(api):
            try:
                if isinstance(found, StudioError):
                    raise found
                lines.append(_line(found.record))
            except StudioError as reason:
                dropped.append(Problem(str(source), line, reason))
    if not lines:
        raise StudioError("data.toolalpaca_nothing", file=str(source))
    write_text(Path(target), "".join(lines))
    return Conversion(len(lines), tuple(dropped))


def _line(record: Any) -> str:
    try:
        line = json.dumps(record, ensure_ascii=False) + "\n"
        line.encode()
    except UnicodeEncodeError as error:
        raise StudioError("data.record_half_character") from error
    except RecursionError as error:
        raise StudioError("data.record_deep") from error
    return line
