"""The training loop on a small random model: a checkpoint goes on to the bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from glmstudio.config.settings import Settings
from glmstudio.data.protocol.prompt import IGNORED, Example
from glmstudio.errors import StudioError
from glmstudio.train.optimizer import adamw
from glmstudio.train.trainer import _next
from tests.published import Shape, write_model
from tests.trainer_helpers import prepared, trainer_for


def trained(folder: Path, method: str, resume: int | None = None) -> dict[int, Any]:
    """Seven steps, four of them an epoch, with a checkpoint after every second one; the metrics of each."""
    settings = Settings(
        method=method, prefix_length=4, prefix_dropout=0.3, lora_dropout=0.3, steps=7, batch_size=2, accumulation=1,
        learning_rate=1e-2, warmup_steps=3, save_every=2, keep_checkpoints=9,
    )  # fmt: skip
    examples = [Example([*range(1, length)], [IGNORED] * 4 + [*range(5, length)]) for length in range(8, 16)]
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    trainer = trainer_for(prepared(folder / "model", settings), settings, examples, folder)
    trainer.fit(folder / f"checkpoints/checkpoint-{resume}" if resume else None)
    assert trainer.step == 7
    file = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {row["step"]: [row["loss"], row["grad_norm"], row["learning_rate"]] for row in rows}


@pytest.mark.parametrize("method", ["ptuning_v2", "lora"])
def test_a_checkpoint_goes_on_to_the_bit(method: str, tmp_path: Path) -> None:
    write_model(tmp_path / "model", Shape(64, 32, 80, 2, 4, 2, 8))
    whole = trained(tmp_path, method)
    assert list(whole) == [1, 2, 3, 4, 5, 6, 7]
    for step in (2, 4, 6, 7):  # the fourth step is an epoch's last one
        assert trained(tmp_path, method, step) == {at: row for at, row in whole.items() if at > step}


def test_the_optimizer_counts_biases_and_norms_last() -> None:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.input_layernorm = torch.nn.RMSNorm(2), torch.nn.RMSNorm(2)
            self.normal = torch.nn.Linear(2, 2)
            self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)

    block = Block()
    groups = [group["params"] for group in adamw(block, 1e-3).param_groups]
    names = {id(parameter): name for name, parameter in block.named_parameters()}
    assert [[names[id(each)] for each in group] for group in groups] == [
        ["normal.weight"], ["norm.weight", "input_layernorm.weight", "normal.bias"],
    ]  # fmt: skip


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_loader_that_is_gone_is_named_however_it_shows(error: Exception) -> None:
    def broken() -> Iterator[Any]:
        raise error
        yield

    with pytest.raises(StudioError) as told:
        _next(broken())
    assert told.value.key == "runs.loader_killed"
