"""Each family's model against ChatGLM3's: `python -m tests.bench.families`.

Processor time for a token, for each million numbers that it is multiplied with: a training step with LoRA over a pack,
and a token of an answer. A is a model of ChatGLM3-6B's proportions, B one of the family's, four layers deep and both 1,024
wide, with random numbers; A and B in turn, one thread, the best of seven. The head has the share of the model
that it has in the published one; a sixth of a pack is learned.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch

from glmstudio.config.settings import Settings
from glmstudio.glm.decode import DecodeForward
from glmstudio.glm.kv_cache import GrowingCache
from glmstudio.planning.memory_fit import KNOWN
from glmstudio.planning.model_shape import ModelShape
from glmstudio.train.batches import joined
from glmstudio.train.measuring.layer_timing import LayerBench, random_model
from glmstudio.train.methods import METHODS
from glmstudio.train.model_with_loss import ModelWithLoss
from tests.bench.chat_cache import machine

TOKENS, LEARNED, CONTEXT, ROUNDS, LAYERS, WIDTH = 256, 42, 256, 7, 4, 1024
OTHERS = ("glm-4-9b-chat", "glm-4-9b-0414", "glm-edge-1.5b-chat")
BENCH = LayerBench(torch.device("cpu"), torch.float32, free=0, flops=0.0, seconds=0.0)


def main() -> None:
    """Print the table and the machine."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| model | training, A | B | B / A | an answer, A | B | B / A |\n|---|---|---|---|---|---|---|")
    ours = small(KNOWN["chatglm3-6b"])
    for name in OTHERS:
        both = [ours, small(KNOWN[name])]
        cells = [name]
        for make, share in ((training, LEARNED / TOKENS), (answering, 1.0)):
            taken = in_turn([make(shape) for shape in both])
            each = [
                1e9 * seconds / (shape.linear_parameters + share * shape.vocab * shape.hidden) * 1e3
                for seconds, shape in zip(taken, both, strict=True)
            ]
            cells += [f"{each[0]:.0f} µs", f"{each[1]:.0f} µs", f"{each[1] / each[0]:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{machine()}, one thread, PyTorch {torch.__version__}")


def small(shape: ModelShape) -> ModelShape:
    """The shape in its proportions, narrower and less deep, with as large a part of it in the head."""
    less = shape.hidden // WIDTH
    part = dataclasses.replace(
        shape, layers=LAYERS, hidden=WIDTH, ffn=shape.ffn // less, heads=shape.heads // less, groups=2
    )
    share = shape.vocab * shape.hidden / shape.linear_parameters
    return dataclasses.replace(part, vocab=int(share * part.linear_parameters / WIDTH))


def training(shape: ModelShape) -> Callable[[], float]:
    """A forward and a backward pass; returns processor seconds for a token."""
    model = random_model(shape, BENCH)
    METHODS["lora"].attach(model, Settings(method="lora"), None)
    scored = ModelWithLoss(model.train())
    ids = torch.randint(1, shape.vocab, (2, TOKENS // 2))
    labels = ids.clone()
    labels[:, : -LEARNED // 2] = -100
    pack = joined([{"input_ids": one, "labels": other, "weight": 0.1} for one, other in zip(ids, labels, strict=True)])
    del pack["tokens"]

    def step() -> float:
        begun = time.process_time()
        scored(**pack)["loss"].backward()
        return (time.process_time() - begun) / TOKENS

    return step


def answering(shape: ModelShape) -> Callable[[], float]:
    """Sixteen tokens of an answer after a prompt; returns processor seconds for a token."""
    model = random_model(shape, BENCH)
    reader = DecodeForward(model)
    ids = torch.arange(CONTEXT)[None] % shape.vocab

    def step() -> float:
        with torch.inference_mode():
            kept = GrowingCache(model.config)
            reader.begin()
            reader.read(ids, kept)
            begun = time.process_time()
            for _ in range(16):
                reader.read(ids[:, :1], kept)
            return (time.process_time() - begun) / 16

    return step


def in_turn(steps: list[Callable[[], float]]) -> list[float]:
    """The least of each, after each was made once."""
    taken: list[list[float]] = [[] for _ in steps]
    for number in range(ROUNDS + 1):
        for step, own in zip(steps, taken, strict=True):
            seconds = step()
            if number:
                own.append(seconds)
    return [min(own) for own in taken]


if __name__ == "__main__":
    main()
