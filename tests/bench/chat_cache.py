"""The first token of a round of tools with kept keys and values against without, and the switch of adapters.

`python -m tests.bench.chat_cache`. CPU time of the demo model, A and B in turn, the best of five; a Markdown table.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from glmstudio.chat.sampling import Sampling
from glmstudio.data.protocol.prompt import chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.families.message import Message
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.glm.load import load_model
from glmstudio.serve.engine import Engine
from tests.adapters import BASE, lora, prefix

CONTEXT, TIMES = 900, 5
FIRST = Sampling(temperature=0.0, max_tokens=1)


def main() -> None:
    """Print both tables and the machine."""
    tokenizer = Tokenizer(BASE)
    with tempfile.TemporaryDirectory() as kept:
        folders = {"prefix": prefix(Path(kept) / "prefix", 1), "lora": lora(Path(kept) / "lora", 2)}
        engine = Engine(AdapterPool(load_model(BASE, device="cpu")), tokenizer.stop_ids)
        for name, folder in folders.items():
            engine.add(name, folder)
        before, after = _rounds(tokenizer)
        print(f"First token of a round of tools at {len(after)} tokens, {len(after) - len(before)} of them new\n")
        print("| | nothing kept | kept | |\n|---|---|---|---|")
        for name in ("", *folders):
            without, with_kept = _first_token(engine, name, before, after)
            print(f"| {name or 'base'} | {_ms(without)} | {_ms(with_kept)} | {without / with_kept:.1f} times |")
        print("\n| | loading again | switch | |\n|---|---|---|---|")
        for name, folder in folders.items():
            loading, switch = _switch(engine, name, folder)
            print(f"| {name} | {_ms(loading)} | {_ms(switch)} | {loading / switch:.0f} times |")
        engine.end()
    print(f"\n{machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")


def _rounds(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """A conversation that ends in a call, and the same with the call's result."""
    question = Message("user", "")
    room = CONTEXT - len(chat_ids(tokenizer, [question])) - 40
    words = tokenizer.decode((tokenizer.encode("tell me more about the weather ") * room)[:room])
    asked = chat_ids(tokenizer, [Message("user", words)])
    call = [*tokenizer.encode("calculator\n"), *tokenizer.encode("```python\ntool_call(expression='37*12')\n```")]
    seen = [tokenizer.special["<|observation|>"], *tokenizer.encode("\n"), *tokenizer.encode("444")]
    return [*asked, *call], [*asked, *call, *seen, tokenizer.special["<|assistant|>"]]


def _first_token(engine: Engine, name: str, before: list[int], after: list[int]) -> tuple[float, float]:
    """Seconds of CPU time without what was kept, and with it."""
    without, with_kept = [], []
    for _ in range(TIMES):
        engine.prefix_cache.clear()
        without.append(_seconds(lambda: list(engine.generate(after, FIRST, name))))
        engine.prefix_cache.clear()
        list(engine.generate(before, FIRST, name))
        with_kept.append(_seconds(lambda: list(engine.generate(after, FIRST, name))))
    return min(without), min(with_kept)


def _switch(engine: Engine, name: str, folder: Path) -> tuple[float, float]:
    """Seconds of CPU time of loading the model with the adapter, and of switching to it."""
    loading, switch = [], []
    for _ in range(TIMES):
        loading.append(_seconds(lambda: load_model(BASE, folder, device="cpu")))
        engine.adapters.use("")
        switch.append(_seconds(lambda: engine.adapters.use(name)))
    return min(loading), min(switch)


def _seconds(do: Callable[[], object]) -> float:
    began = time.process_time()
    do()
    return time.process_time() - began


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def machine() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
