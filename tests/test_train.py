"""What the trainer does with numbers that are not finite."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from glmstudio.errors import StudioError
from glmstudio.train.trainer import Witness


@pytest.mark.parametrize(("fp16", "forgiven"), [(False, 0), (True, 20)])
def test_gradients_that_are_not_finite_stop_the_run(tmp_path: Path, fp16: bool, forgiven: int) -> None:
    prefix = torch.nn.Linear(2, 2)
    witness = Witness(tmp_path, SimpleNamespace(prefix=prefix), steps=9)  # type: ignore[arg-type]

    def step(value: float) -> None:
        prefix.weight.grad = torch.full((2, 2), value)
        witness.on_pre_optimizer_step(SimpleNamespace(fp16=fp16), SimpleNamespace(global_step=4), None)

    for value in [*[float("nan")] * forgiven, 1.0, *[float("inf")] * forgiven]:
        step(value)
    with pytest.raises(StudioError, match="The gradient at step 5 is not finite"):
        step(float("nan"))
