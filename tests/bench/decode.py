"""Decoding against the old chat path: `python -m tests.bench.decode`.

CPU time for a token of an answer, one thread, A and B in turn, the best of five: the model server's engine and text
stream against the old demo's way (`tests/old_recipe.py`: keys and values put together anew for every token and layer,
expanded to all heads, and the whole answer turned into text again for every token). A random model of ChatGLM3-6B's
proportions with the demo's vocabulary. Then 16 bits against 8, by a token.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from glmstudio.chat.sampling import Sampling
from glmstudio.data.protocol.tokenizer import TextStream, Tokenizer
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.glm.load import load_model
from glmstudio.serve.engine import Engine, GenerationJob
from glmstudio.serve.events import Event, JobFailed, JobFinished, NewToken
from tests import old_recipe
from tests.adapters import BASE
from tests.bench.chat_cache import machine
from tests.published import Shape, write_model

ANSWER, ROUNDS = 128, 5
CONTEXTS = {256: 1.2, 2048: 2.2}
WIDE = Shape(hidden=1536, ffn=5120, layers=4, heads=12, groups=2, width=128)


def main() -> None:
    """Print both tables and the machine."""
    torch.set_num_threads(1)
    tokenizer = Tokenizer(BASE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model", Shape(vocabulary=tokenizer.size))
        print("| context | old | ours | ratio | goal |\n|---|---|---|---|---|")
        old = old_recipe.ChatGLM(folder / "model").eval()
        engine = Engine(AdapterPool(load_model(folder / "model", device="cpu")), ())
        for context, goal in CONTEXTS.items():
            prompt = _prompt(tokenizer, context - ANSWER)
            best = _in_turn(partial(_old, old, tokenizer, prompt), partial(_ours, engine, tokenizer, prompt))
            ratio = best[0] / best[1]
            print(f"| {context:,} | {best[0]:.2f} ms | {best[1]:.2f} ms | {ratio:.2f} | {goal} |", flush=True)
        engine.end()
        write_model(folder / "wide", WIDE)
        engines = [Engine(AdapterPool(load_model(folder / "wide", device="cpu", bits=bits)), ()) for bits in (16, 8)]
        prompt = _prompt(tokenizer, 64)
        wide, small = _in_turn(*(partial(_ours, each, tokenizer, prompt) for each in engines))
        print(
            f"\n8 bits against float32, width {WIDE.hidden}: {wide:.2f} ms to {small:.2f} ms a token: {wide / small:.2f}"
        )
    print(f"\n{machine()}, one thread, PyTorch {torch.__version__}")


def _prompt(tokenizer: Tokenizer, length: int) -> list[int]:
    draw = torch.Generator().manual_seed(length)
    return torch.randint(3, min(704, tokenizer.pieces), (length,), generator=draw).tolist()


def _in_turn(*sides: Callable[[], float]) -> list[float]:
    seen = [[side() for side in sides] for _ in range(ROUNDS)]
    return [min(each[at] for each in seen) for at in range(len(sides))]


def _old(model: old_recipe.ChatGLM, tokenizer: Tokenizer, prompt: list[int]) -> float:
    """Milliseconds of CPU time for each token after the first."""
    with torch.inference_mode():
        ids = torch.tensor([prompt])
        mask, positions = torch.ones_like(ids), torch.arange(ids.shape[1])[None]
        logits, cache = model.read(ids, None)
        began = time.process_time()
        for _ in range(ANSWER - 1):
            ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
            mask = torch.cat([mask, mask.new_ones(1, 1)], dim=1)  # transformers' own loop grew these, too
            positions = torch.cat([positions, positions[:, -1:] + 1], dim=1)
            tokenizer.decode(ids[0, len(prompt) :].tolist())
            logits, cache = model.read(ids[:, -1:], cache)
    return 1000 * (time.process_time() - began) / (ANSWER - 1)


def _ours(engine: Engine, tokenizer: Tokenizer, prompt: list[int]) -> float:
    """The same of the engine, in whose thread the ids become text here; in the server that is another thread's work."""
    engine.prefix_cache.clear()
    stream, begun, over = TextStream(tokenizer), [0.0], threading.Event()

    def put(event: Event) -> None:
        if isinstance(event, NewToken):
            begun[0] = begun[0] or time.process_time()
            stream.push(event.id)
        elif isinstance(event, JobFinished | JobFailed):
            over.set()

    engine.submit(GenerationJob(prompt, Sampling(temperature=0.0, max_tokens=ANSWER), put))
    over.wait()
    return 1000 * (time.process_time() - begun[0]) / (ANSWER - 1)


if __name__ == "__main__":
    main()
