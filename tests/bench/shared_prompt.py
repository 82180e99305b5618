"""What it gains to compute a prompt once for several conversations on it: `python -m tests.bench.shared_prompt`.

Real tokens per CPU-second of the trainer that a run uses, on one thread, with `shared_prompts` at 1, 2, 4 and 8 in turn,
the best of each. Model and lengths are those of `tests.bench.old_recipe`; nine conversations of like length have the
same prompt, which is 62 % of the shortest of them: about as in ToolAlpaca.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from glmstudio.data.protocol.prompt import Example
from glmstudio.train.shared_prefix import Prompts
from tests.bench.old_recipe import HEADS, conversations, our_trainer
from tests.published import Shape, write_model

SHARED, ON_ONE, MOST = 0.62, 9, (1, 2, 4, 8)
PACK = 2048  # tokens; a prompt and its conversations come into one pack


def main() -> None:
    """Print the table of `docs/benchmarks.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    vocabulary = HEADS["R1"]
    sides = {most: with_prompts(conversations(vocabulary), most) for most in MOST}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        write_model(model, Shape(vocabulary=vocabulary))
        best = dict.fromkeys(MOST, 0.0)
        for _ in range(options.rounds + 1):  # the first warms up, and counts only if it was the best
            for most in MOST:
                best[most] = max(best[most], speed(model, *sides[most]))
    for most, rate in best.items():
        print(f"{most} on one prompt: {rate:6.0f} real tokens per CPU-second   {rate / best[1]:.2f}")


def with_prompts(examples: list[Example], most: int) -> tuple[list[Example], Prompts]:
    """The same conversations, those of like length on one prompt; in the order in which they were."""
    order = sorted(range(len(examples)), key=lambda at: len(examples[at].input_ids))
    family, length = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    made = list(examples)
    for place, at in enumerate(order):
        first = order[place - place % ON_ONE]
        shared = round(SHARED * len(examples[first].input_ids))
        family[at], length[at] = first, shared
        ids = examples[first].input_ids[:shared] + examples[at].input_ids[shared:]
        made[at] = Example(ids, examples[at].labels)
    return made, Prompts(family, length, most)


def speed(model: Path, examples: list[Example], prompts: Prompts) -> float:
    """Real tokens per CPU-second from the first step to the saved checkpoint."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        given = prompts if prompts.most > 1 else None
        trainer = our_trainer(model, Path(folder), examples, given, pack_tokens=PACK)
        began = time.process_time()
        trainer.fit()
        seconds = time.process_time() - began
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return sum(json.loads(line)["tokens"] for line in lines) / seconds


if __name__ == "__main__":
    main()
