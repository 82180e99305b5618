"""A person's own questions to a run, kept in its folder with the last answers to them, the newest first."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any

from glmstudio.files import read_table, write_json
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run

MOST = 50
LONGEST = 2000  # characters of a question
_LONGEST_ANSWER = 20_000
_lock = threading.Lock()


@dataclass(frozen=True)
class KeptPrompt:
    """A question and what was answered last; `asked` is 0 where nothing was yet."""

    question: str
    base: str = ""
    tuned: str = ""
    asked: float = 0.0
    seconds: float = 0.0
    in_turn: bool = False


def kept_prompts(run: Run) -> list[KeptPrompt]:
    """All of them; lines that are none are left out."""
    listed = read_table(run.path / RunFiles.PROMPTS).get("prompts")
    found = [_made(each) for each in listed[:MOST]] if isinstance(listed, list) else []
    return [each for each in found if each is not None]


def keep_prompt(run: Run, prompt: KeptPrompt) -> None:
    """Keep a question with its answers; in its place where it is known, else on top. Raises OSError."""
    with _lock:
        now = kept_prompts(run)
        if any(each.question == prompt.question for each in now):
            now = [prompt if each.question == prompt.question else each for each in now]
        else:
            now = [prompt, *now][:MOST]
        _write(run, now)


def drop_prompt(run: Run, question: str) -> None:
    """Keep a question no longer. Raises OSError."""
    with _lock:
        _write(run, [each for each in kept_prompts(run) if each.question != question])


def _write(run: Run, prompts: list[KeptPrompt]) -> None:
    write_json(run.path / RunFiles.PROMPTS, {"prompts": [asdict(each) for each in prompts]}, parents=False)


def _made(told: Any) -> KeptPrompt | None:
    if not isinstance(told, dict) or not isinstance(told.get("question"), str) or not told["question"].strip():
        return None
    texts = {name: str(told.get(name) or "")[:_LONGEST_ANSWER] for name in ("base", "tuned")}
    numbers = {name: _number(told.get(name)) for name in ("asked", "seconds")}
    return KeptPrompt(told["question"][:LONGEST], **texts, **numbers, in_turn=told.get("in_turn") is True)  # type: ignore[arg-type]


def _number(value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e11 else 0.0
