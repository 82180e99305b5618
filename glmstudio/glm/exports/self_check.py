"""Every export is read by another program in a process of its own, and compared with the studio. A difference is an
error.

Ids must be equal. Logits may differ by what the order of additions makes of float32 (of float16, where the memory
holds no more), and a greedy answer only where the two best tokens were closer than that.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.glm.exports.reference_answers import ReferenceAnswers, conversations
from glmstudio.paths import ROOT
from glmstudio.system.die_with_parent import on_leash

TRANSFORMERS, GGUF = "transformers_check.py", "gguf_reader.py"
OUTSIDE = Path(__file__).parent / "outside"
_CLOSE = {"float32": 1e-4, "float16": 5e-2}  # of the largest logit


@dataclass(frozen=True)
class CheckResult:
    """What was compared, and how it came out; `answers` is 0 where only logits were."""

    reader: str
    prompts: int
    asked: int
    difference: float
    largest: float
    answers: int
    equal: int
    tokens: int
    dtype: str
    moved: float


def check_with(script: str, target: Path, reference: ReferenceAnswers, adapter: Path | None = None) -> CheckResult:
    """Let `outside/<script>` read `target` and compare. Raises StudioError where it cannot, and where it differs."""
    with outside_place() as place:
        asked, told = place / "asked.json", place / ("told.npz" if script == GGUF else "told.pt")
        length = 0 if adapter is not None else reference.length
        write_json(
            asked,
            {
                "conversations": [{"messages": each["messages"], "tools": each["tools"]} for each in conversations()],
                "asked": reference.asked,
                "length": length,
                "answers": reference.answers,
                "dtype": reference.dtype,
                "adapter": str(adapter) if adapter is not None else None,
            },
        )
        run_outside(OUTSIDE / script, [str(target), str(asked), str(told)])
        return compared(reference, _told(told))


@contextlib.contextmanager
def outside_place() -> Iterator[Path]:
    """A folder for what goes to the other program and comes back."""
    with tempfile.TemporaryDirectory(prefix="glmstudio-check-") as place:
        yield Path(place)


def run_outside(script: Path, arguments: Sequence[str]) -> None:
    """Run a program that has nothing of the studio, and ends with this process. Raises StudioError where it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GLMSTUDIO"))}
    done = subprocess.run(
        on_leash(
            [sys.executable, "-I", str(script), *arguments]
        ),  # -I: neither this folder nor the studio is in its path
        cwd=ROOT,
        env=environment | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StudioError("exports.check_failed", reason=(done.stderr.strip() or str(done.returncode))[-300:])


def compared(reference: ReferenceAnswers, found: dict[str, Any]) -> CheckResult:
    """How far `found` is from ours. Raises StudioError where it is another model's."""
    for number, (own, other) in enumerate(zip(reference.prompts, found["prompts"], strict=True), 1):
        if own != other:
            raise StudioError("exports.other_ids", number=number)
    logits = found["logits"].float()
    largest = float(reference.logits.abs().max())
    close = _CLOSE[reference.dtype] * max(1.0, largest)
    difference = float((reference.logits - logits).abs().max())
    if not difference <= close:  # also where it is no number
        raise StudioError("exports.other_logits", difference=f"{difference:.2g}", allowed=f"{close:.2g}")
    answers = found.get("answers") or []
    compared_answers = [each for each in answers if each]
    for number, (own, leads, other) in enumerate(zip(reference.answers, reference.leads, answers, strict=False), 1):
        at = next((at for at, pair in enumerate(zip(own, other, strict=False)) if pair[0] != pair[1]), None)
        if other and (leads[at] > 2 * close if at is not None else len(own) != len(other)):
            raise StudioError("exports.other_answer", number=number)
    return CheckResult(
        reader=str(found["version"]),
        prompts=len(reference.prompts),
        asked=len(logits),
        difference=difference,
        largest=largest,
        answers=len(compared_answers),
        equal=sum(own == other for own, other in zip(reference.answers, answers, strict=False) if other),
        tokens=sum(map(len, compared_answers)),
        dtype=reference.dtype,
        moved=reference.moved,
    )


def _told(file: Path) -> dict[str, Any]:
    if file.suffix == ".pt":
        found: dict[str, Any] = torch.load(file, weights_only=True)
        return found
    with np.load(file, allow_pickle=False) as arrays:
        return json.loads(str(arrays["told"])) | {"logits": torch.from_numpy(arrays["logits"])}
