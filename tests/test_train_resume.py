"""Going on after a stop, in one process: the same losses as without it, whatever the method, and from what lies there."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from glmstudio.config.settings import Settings, change
from glmstudio.files import read_json, write_json
from glmstudio.train import run_reporter
from glmstudio.train.run_reporter import RunReporter
from glmstudio.train.worker import train
from tests.marks import rare
from tests.run_helpers import small_data

SMALL: dict[str, Any] = {
    "steps": 8, "batch_size": 2, "accumulation": 1, "prefix_length": 4, "max_length": 128, "save_every": 4,
    "validation_share": 0.2, "learning_rate": 1e-3, "gradient_checkpointing": "off", "device": "cpu",
    "bad_records": "fix", "lora_dropout": 0.05,
}  # fmt: skip


def run(folder: Path, *, warm: Path | None = None, resume: str | None = None, **changes: Any) -> list[dict[str, Any]]:
    """Train in this process; the rows of the metrics."""
    settings = change(Settings(data=str(small_data(folder.parent))), SMALL | changes, source="")
    about = {"settings": dataclasses.asdict(settings), "warm_start": str(warm) if warm else None, "resume": resume}
    write_json(folder / "run.json", about)
    assert train(folder) == 0, read_json(folder / "progress.json")
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(rows: list[dict[str, Any]]) -> dict[int, float]:
    """Step to loss; of a step that was made twice, the later one."""
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


@pytest.mark.slow  # 20 to 30 s each
@pytest.mark.parametrize(
    "changes",
    [
        {"method": "ptuning_v2"},
        rare({"method": "lora", "loader_processes": 1}),
        {"method": "full", "accumulation": 2, "shared_prompts": 3},
    ],
    ids=["prefix", "lora", "full"],
)
def test_a_stop_at_a_step_that_is_validated_changes_no_loss(
    changes: dict[str, Any], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = losses(run(tmp_path / "whole", **changes))
    with monkeypatch.context() as patch:
        patch.setattr(RunReporter, "stop_asked", property(lambda self: self.step >= 3))
        run(tmp_path / "cut", **changes)
    assert read_json(tmp_path / "cut/progress.json")["phase"] == "stopped"
    gone_on = losses(run(tmp_path / "cut", resume="checkpoint-4", **changes))
    assert gone_on.keys() == whole.keys()
    assert max(abs(gone_on[step] - whole[step]) for step in whole) < 1e-6


@pytest.mark.slow
def test_a_checkpoint_has_the_validation_loss_of_its_own_step_only(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunReporter, "stop_asked", property(lambda self: self.step >= 5))
    monkeypatch.setattr(run_reporter, "_HEARTBEAT", 0.0)
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(run_reporter, "write_json", lambda _, told, **__: written.append(told))
    rows = run(tmp_path / "run")
    shares = [each.get("validating") for each in written]
    known = [share for share in shares if share is not None]
    assert known[0] == 0.0, "where nothing is heard for a minute, a run is said to hang"
    assert len(known) > 1
    assert known == sorted(set(known))
    assert shares[shares.index(known[-1]) + 1] is None, "it is over"
    seals = {step: read_json(tmp_path / f"run/checkpoints/checkpoint-{step}/checkpoint.json") for step in (4, 6)}
    assert seals[4]["validation_loss"] == next(row["validation_loss"] for row in rows if "validation_loss" in row)
    assert seals[6]["validation_loss"] is None


@pytest.mark.slow  # 20 s
@pytest.mark.parametrize("method", [rare("ptuning_v2"), "lora"])
def test_a_warm_start_is_needed_once(method: str, home: Path, tmp_path: Path) -> None:
    sizes = {"prefix_length": 6, "lora_rank": 2}
    run(tmp_path / "first", method=method, lora_dropout=0.3, **sizes)
    warm = shutil.copytree(tmp_path / "first" / "result", tmp_path / "warm")
    cold, whole = (
        losses(run(tmp_path / "cold", method=method)),
        losses(run(tmp_path / "whole", method=method, warm=warm)),
    )
    assert whole[1] < cold[1]
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/result")
    shutil.rmtree(warm)
    if method == "lora":  # its rank is that of what it goes on with; its dropout is that of the settings
        about = read_json(tmp_path / "whole/result/adapter_config.json")
        assert (about["r"], about["lora_dropout"]) == (2, 0.05)
    gone_on = losses(run(tmp_path / "cut", method=method, warm=warm, resume="checkpoint-4"))
    assert max(abs(gone_on[step] - whole[step]) for step in whole) < 1e-6
