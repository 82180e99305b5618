"""What stops a run whose numbers go wrong."""

from __future__ import annotations

import math

import pytest

from glmstudio.errors import StudioError
from glmstudio.train.divergence import DivergenceGuard


def losses(health: DivergenceGuard, *values: float) -> StudioError | None:
    for step, value in enumerate(values, 1):
        try:
            health.loss(value, step)
        except StudioError as error:
            return error
    return None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_a_number_stops_at_once(bad: float) -> None:
    error = losses(DivergenceGuard(scaled=False), 2.0, 1.9, bad)
    assert error is not None
    assert (error.key, error.values) == ("runs.loss_not_finite", {"step": 3})


def test_a_loss_of_zero_stops_after_five_steps_in_a_row() -> None:
    error = losses(DivergenceGuard(scaled=False), 1.0, *[0.0] * 4, 1e-30, *[0.0] * 9)
    assert error is not None
    assert (error.key, error.values) == ("runs.loss_zero", {"step": 11})


def test_a_loss_that_runs_away_stops_and_a_noisy_one_does_not() -> None:
    assert losses(DivergenceGuard(scaled=False), *[0.05, 6.0] * 200) is None, "as of single conversations"
    assert losses(DivergenceGuard(scaled=False), *[8.0 - step / 50 for step in range(300)]) is None
    assert losses(DivergenceGuard(scaled=False), *[0.5] * 50, *[2.9] * 50) is None, "worse, but not lost"
    error = losses(DivergenceGuard(scaled=False), *[1.0] * 20, *[9.0] * 20)
    assert error is not None
    # Four of the last ten are 9: their mean is the first above 2 x 1 + 2.
    assert (error.key, error.values) == ("runs.loss_exploded", {"step": 24, "loss": 4.2, "best": 1.0})
    assert error.what() == "The loss diverged: it is 4.20 at step 24 and was 1.00 before, so the run was stopped."


@pytest.mark.parametrize(("scaled", "forgiven"), [(False, 0), (True, 20)])
def test_gradients_that_are_not_finite_stop_the_run(scaled: bool, forgiven: int) -> None:
    health = DivergenceGuard(scaled=scaled)
    for finite in [*[False] * forgiven, True, *[False] * forgiven]:
        health.gradient(finite, 5)
    with pytest.raises(StudioError) as stopped:
        health.gradient(False, 5)
    assert (stopped.value.key, stopped.value.values) == ("runs.gradient_not_finite", {"step": 5})
