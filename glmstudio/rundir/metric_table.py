"""The figures of a run as other programs know them: columns of a table, and the tags that TensorBoard groups by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# Tags are those of transformers' Trainer.
TAGS = {
    "loss": "train/loss",
    "validation_loss": "eval/loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "tokens": "train/tokens",
    "tokens_per_second": "train/tokens_per_second",
    "memory": "train/memory",
    "learned": "eval/facts_learned",
    "learned_of": "eval/facts",
    "kept": "eval/questions_kept",
    "kept_of": "eval/questions",
}
COLUMNS = ("step", "seconds", *TAGS)


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one line of `metrics.jsonl`, by tag."""
    return {tag: float(row[name]) for name, tag in TAGS.items() if name in row}


def by_step(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each step, with what was measured at it: a validation is a line of its own in the file."""
    steps: dict[int, dict[str, Any]] = {}
    for row in rows:
        if "step" in row:
            known = {name: row[name] for name in COLUMNS if name in row}
            steps.setdefault(int(row["step"]), {}).update(known)
    return [steps[step] for step in sorted(steps)]
