"""One question to the base and to what was learned, with the tools and the system text that the data had:
`python -m glmstudio.serve.versus MODEL LEARNED OPENING QUESTION`, where OPENING is a run's `opening.json`.

The base answers before anything is put on it, so its column cannot show the tuned model by mistake.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glmstudio.chat.sampling import Sampling
from glmstudio.data.protocol.prompt import Message, chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.glm.load import load_model
from glmstudio.serve.engine import Engine

_LONGEST = 256  # tokens of an answer


def main(model: Path, learned: Path, opening: Path, question: str) -> int:
    """Print the two answers as JSON: `base` and `tuned`; a problem instead of them where there is one."""
    try:
        answers = ask_both(model, learned, question, read_table(opening).get("ids", ()))
    except StudioError as problem:
        answers = {"problem": problem.to_json()}
    sys.stdout.write(json.dumps(answers) + "\n")
    return 0


def ask_both(model: Path, learned: Path, question: str, opening: Sequence[int] = ()) -> dict[str, Any]:
    """The answer of the base, then of the tuned model, both without chance. Raises StudioError."""
    tokenizer = Tokenizer(model)
    prompt = chat_ids(tokenizer, [Message("user", question)], opening)
    engine = Engine(AdapterPool(load_model(model)), tokenizer.stop_ids)
    base = _answer(engine, tokenizer, prompt)
    if (learned / "adapter.json").is_file():
        engine.add("tuned", learned)
        return {"base": base, "tuned": _answer(engine, tokenizer, prompt, "tuned")}
    engine.end()
    whole = Engine(AdapterPool(load_model(learned)), tokenizer.stop_ids)
    return {"base": base, "tuned": _answer(whole, tokenizer, prompt)}


def _answer(engine: Engine, tokenizer: Tokenizer, prompt: list[int], adapter: str = "") -> str:
    sampling = Sampling(temperature=0.0, max_tokens=_LONGEST)
    return tokenizer.decode(engine.generate(prompt, sampling, adapter)).strip()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
