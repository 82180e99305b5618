"""One way from a request to a run: the page, the command and a start say the same of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from glmstudio.cli import main
from glmstudio.config.presets import load_preset
from glmstudio.planning.resolve import RunRequest, resolve
from glmstudio.runs.start import start
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state.form_state import FormState, recipe
from glmstudio.ui.state.page_state import FinetuneState
from tests.run_helpers import problem, small_data

PRESET = "demo/ptuning_v2"


def page(data: Path, changes: dict[str, Any]) -> FormState:
    """What the page says once it has read the data."""
    form = FinetuneState(source="file", data=str(data), preset=PRESET, changes=tuple(changes.items()))
    end = time.monotonic() + 60
    while True:
        clear_caches()
        found = recipe(form)
        if found.problem is None or found.problem.key != "ui.finetune.reading":
            return found
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({}, None),
        ({"engine": "fsdp"}, "engines.needs_full"),
        ({"warm_start": "nobody"}, "adapters.missing"),
        ({"validation": "gone.jsonl"}, "data.file_missing"),
        ({"processes": "2", "device": "0,1"}, "runs.no_card"),
        ({"model": "nowhere"}, "models.unknown"),
    ],
)
def test_the_page_the_command_and_the_start_agree(
    changes: dict[str, Any],
    key: str | None,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    data, changes = small_data(tmp_path), {"steps": "3"} | changes
    request = RunRequest(load_preset(PRESET), data, changes=changes)
    monkeypatch.setattr("glmstudio.planning.probe.start_probe", lambda *_: None)
    found, shown = resolve(request), page(data, changes)
    assert (found.problem and found.problem.key) == key
    assert (shown.problem and shown.problem.key) == key
    assert (shown.settings, shown.device, shown.plan and shown.plan.settings) == (
        found.settings, found.device, found.plan and found.plan.settings,
    )  # fmt: skip
    if key is not None:
        assert problem(start, request).key == key
        sets = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
        assert main(["train", PRESET, "--data", str(data), *sets, "--plan", "--json"]) == 1
        said = capsys.readouterr()
        assert found.problem is not None
        assert found.problem.what() in (json.loads(said.out)["problem"] if said.out else said.err)
        assert not (home / "runs").exists()
