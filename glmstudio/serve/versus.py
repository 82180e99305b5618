"""One question to the base and to what was learned: `python -m glmstudio.serve.versus MODEL LEARNED QUESTION`.

The base answers before anything is put on it, so its column cannot show the tuned model by mistake.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from glmstudio.data.prompt import Message, chat_ids
from glmstudio.data.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.glm.adapters import attach_adapter
from glmstudio.glm.load import load_model
from glmstudio.serve.engine import Engine, Sampling

_LONGEST = 256  # tokens of an answer


def main(model: Path, learned: Path, question: str) -> int:
    """Print the two answers as JSON: `base` and `tuned`; a problem instead of them where there is one."""
    try:
        answers = ask_both(model, learned, question)
    except StudioError as problem:
        answers = {"problem": problem.to_json()}
    sys.stdout.write(json.dumps(answers) + "\n")
    return 0


def ask_both(model: Path, learned: Path, question: str) -> dict[str, Any]:
    """The answer of the base, then of the tuned model, both without chance. Raises StudioError."""
    tokenizer = Tokenizer(model)
    glm = load_model(model)
    base = _answer(glm, tokenizer, question)
    if (learned / "adapter.json").is_file():
        attach_adapter(glm, learned)
    else:
        del glm
        glm = load_model(learned)
    return {"base": base, "tuned": _answer(glm, tokenizer, question)}


def _answer(glm: Any, tokenizer: Tokenizer, question: str) -> str:
    prompt = chat_ids(tokenizer, [Message("user", question)])
    sampling = Sampling(temperature=0.0, max_tokens=_LONGEST)
    return tokenizer.decode(Engine(glm, tokenizer.stop_ids).generate(prompt, sampling, threading.Event())).strip()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
