"""How fast this machine trains: what it has measured, and what its processor cannot beat.

What was measured comes from this machine alone, the best source first: a run of the same model with the same method on
the same devices, else the benchmark of the machine (`machine_bench`). Without either, nothing is said of the time but
that a processor needs at least so long.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from glmstudio.config.devices import CPU
from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.planning.machine_bench import cores, last
from glmstudio.planning.model_shape import ModelShape
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run, every_run

DAY_S = 86_400
_TAIL = 1 << 16  # bytes of a run's metrics: hundreds of steps
_NEWEST = 200  # runs that are looked at
_AS_FAST = ("model", "method", "base_bits", "engine", "shared_prompts")  # settings that decide most of the speed
_CORE_FLOPS = 1e11  # of one core in float32, more than today's keep up in a training


@dataclass(frozen=True)
class Pace:
    """Tokens a second; `run` is the one that measured it, or "" for the benchmark."""

    tokens_per_second: float
    run: str = ""


@dataclass(frozen=True)
class ExpectedTime:
    """The seconds that a training takes, as measured here; or else those that it needs at least."""

    seconds: float
    measured: bool


Kind = tuple[Any, ...]  # what two trainings of about the same speed have in common


def measured_paces() -> dict[Kind, Pace]:
    """What this machine has measured, by the kind of training."""
    return _of_bench() | _of_runs()


def expected_time(
    settings: Settings, device: str, shape: ModelShape, tokens: float, paces: dict[Kind, Pace]
) -> ExpectedTime | None:
    """How long so many tokens take there; None where nothing is known."""
    if pace := paces.get(_kind(asdict(settings), device)):
        return ExpectedTime(tokens / pace.tokens_per_second, measured=True)
    return ExpectedTime(_least(settings, shape, tokens), measured=False) if device == CPU else None


def _least(settings: Settings, shape: ModelShape, tokens: float) -> float:
    """What the processor needs for its arithmetic alone, at its best: forward and backward, where an adapter needs no
    gradients of the weights."""
    each = 6 if settings.method == "full" else 4
    return each * shape.parameters * tokens / (cores() * _CORE_FLOPS)


def _kind(settings: dict[str, Any], device: str) -> Kind:
    return (*(settings.get(name) for name in _AS_FAST), device)


def _of_runs() -> dict[Kind, Pace]:
    """Of each kind the newest run that made steps."""
    found: dict[Kind, Pace] = {}
    changed = {run: status for run in every_run() if (status := _metrics_status(run)) is not None}
    for run in sorted(changed, key=lambda run: changed[run], reverse=True)[:_NEWEST]:
        kind, pace = _pace_of(run, changed[run])
        if pace is not None:
            found.setdefault(kind, pace)
    return found


@lru_cache(maxsize=2 * _NEWEST)
def _pace_of(run: Run, changed: tuple[int, int]) -> tuple[Kind, Pace | None]:
    """Of the steps that were made last, without the first one, which warms everything up."""
    record, size = run.record, changed[1]
    rows = run.metrics(max(0, size - _TAIL))[0]
    rows = [row for row in rows if row.get("tokens_per_second") and row.get("tokens") and row.get("step") != 1]
    seconds = sum(row["tokens"] / row["tokens_per_second"] for row in rows)
    speed = sum(row["tokens"] for row in rows) / seconds if seconds > 0 else 0.0
    return _kind(record.settings, record.placement.device), Pace(speed, run.name) if speed > 0 else None


def _metrics_status(run: Run) -> tuple[int, int] | None:
    try:
        status = (run.path / RunFiles.METRICS).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _of_bench() -> dict[Kind, Pace]:
    try:
        bench = last()
    except StudioError:
        return {}
    return {
        _kind(asdict(Settings(model=each.model, method=way.method)), bench.place.device): Pace(way.tokens_per_second)
        for each in bench.expectations
        for way in each.tuning
        if way.tokens_per_second
    }
