"""A base model and a whole model that a run made of it: `python -m glmstudio.serve.versus MODEL LEARNED`.

Each line of the input is a prompt, `{"ids": […]}`; each line of the output has the two answers, or a problem. It ends
with its input. Both models stay in memory where there is room; else each answer loads its own, and `in_turn` says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from glmstudio.chat.sampling import Sampling
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.glm.load import load_model
from glmstudio.jobs.presence import serving
from glmstudio.serve.engine import Engine

LONGEST = 256  # tokens of an answer
_ROOM = 0.8  # of the free memory, the rest is for the answers


def main(model: Path, learned: Path) -> int:
    """Answer every line."""
    with serving():
        pair: _Pair | None = None
        for line in sys.stdin:
            try:
                pair = pair or _Pair(model, learned)
                told = pair.ask(json.loads(line)["ids"])
            except StudioError as problem:
                told = {"problem": problem.to_json()}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
    return 0


class _Pair:
    """The two models: `base` and `tuned`."""

    def __init__(self, model: Path, learned: Path) -> None:
        self._tokenizer = Tokenizer(model)
        self._folders = {"base": model, "tuned": learned}
        self._engines: dict[str, Engine] = {}

    def ask(self, prompt: Sequence[int]) -> dict[str, Any]:
        """The answer of each without chance. Raises StudioError."""
        told: dict[str, Any] = {"in_turn": False}
        for side in self._folders:
            told["in_turn"] |= self._load(side)
            ids = self._engines[side].generate(prompt, Sampling(temperature=0.0, max_tokens=LONGEST))
            told[side] = self._tokenizer.decode(ids).strip()
        return told

    def _load(self, side: str) -> bool:
        """Load one of them if it is not there; returns whether the other one had to leave for it."""
        if side in self._engines:
            return False
        leaves = any(each.adapters.weight_bytes > _ROOM * _free() for each in self._engines.values())
        if leaves:
            for each in self._engines.values():
                each.end()
            self._engines.clear()
        self._engines[side] = Engine(AdapterPool(load_model(self._folders[side])), self._tokenizer.stop_ids)
        return leaves


def _free() -> int:
    """Bytes of memory where a model is loaded to."""
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
