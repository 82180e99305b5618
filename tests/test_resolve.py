"""One way from a request to a run: the page, the command and a start say the same of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glmstudio.cli import main
from glmstudio.cli.train import plan_rows
from glmstudio.config.presets import load_preset
from glmstudio.planning.resolve import RunRequest, resolve, with_validation
from glmstudio.runs.start import start
from glmstudio.ui.finetune import form_actions, review
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state.form_state import FormState, read_form
from glmstudio.ui.state.page_state import FinetuneState
from tests.run_helpers import problem, small_data

PRESET = "demo/ptuning_v2"


def page(data: Path, changes: dict[str, Any]) -> FormState:
    """What the page says once it has read the data."""
    form = FinetuneState(source="file", data=str(data), preset=PRESET, changes=tuple(changes.items()))
    end = time.monotonic() + 60
    while True:
        clear_caches()
        found = read_form(form)
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


@pytest.mark.parametrize(
    ("records", "changes", "held", "auto"),
    [
        (60, {}, range(1, 12), True),
        (49, {}, range(1), False),
        (60, {"validation_auto": "false"}, range(1), False),
        (60, {"validation_share": "0.2"}, range(3, 25), False),
        (60, {"best_by": "facts"}, range(1), False),
    ],
)
def test_enough_conversations_are_validated_unless_somebody_says_otherwise(
    records: int, changes: dict[str, Any], held: range, auto: bool, home: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(small_data(tmp_path).read_text(encoding="utf-8").splitlines(keepends=True)[:records]))
    found = resolve(RunRequest(load_preset(PRESET), data, changes=changes))
    assert found.plan is not None
    assert found.selection is not None
    plan = found.plan
    assert plan.held_back in held
    assert (plan.auto_validation, found.auto_validation) == (auto, auto)
    assert plan.learned_from + plan.held_back == found.selection.used
    assert (plan.trained_tokens < found.selection.tokens) == bool(plan.held_back)
    assert (plan.trained_labels < found.selection.learned) == bool(plan.held_back)
    said = dict(plan_rows(plan)).get("held_back", "")
    assert ("--set validation_auto=false" in said) == auto
    if not plan.held_back:
        assert (plan.trained_tokens, plan.trained_labels) == (found.selection.tokens, found.selection.learned)


def test_of_much_data_no_more_is_held_out_than_tells(home: Path) -> None:
    chosen: Any = SimpleNamespace(used=100_000)
    store: Any = SimpleNamespace(form="conversations")
    settings = load_preset(PRESET).settings
    assert with_validation(settings, store, chosen).validation_share == 0.002
    store.form = "facts"
    assert with_validation(settings, store, chosen) == settings, "each fact has to be learned"


def test_the_page_counts_after_the_split_and_one_click_trains_on_all(home: Path, tmp_path: Path) -> None:
    data = small_data(tmp_path)
    found = page(data, {})
    assert found.plan is not None
    form = FinetuneState(source="file", data=str(data), preset=PRESET)
    held, rest = found.plan.held_back, found.plan.learned_from
    assert held + rest == 60
    said = review.render_data("en", form)
    assert f"Records learned from: {rest}, with {found.plan.trained_tokens:,} tokens" in said
    assert f"Held out for validation: {held}." in said
    assert f"用于训练的记录 {rest} 条" in review.render_data("zh", form)
    every = form_actions.act(form, {"act": "train-on-all"})
    said = review.render_data("en", every)
    assert "Records learned from: 60," in said
    assert "Held out" not in said
