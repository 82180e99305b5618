"""The plan before a start: does it fit, what would make it fit, how long it takes, and its command."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glmstudio.cli.train import plan_rows
from glmstudio.config.presets import Settings, load_preset
from glmstudio.data.store import prepare
from glmstudio.errors import StudioError
from glmstudio.paths import DEMO, ROOT, SAMPLE
from glmstudio.planning.memory_fit import DeviceMemory, at_most, device_memory_of, estimate, remedy, resolve_auto
from glmstudio.planning.model_shape import ModelShape
from glmstudio.planning.plan import make_plan
from glmstudio.planning.probe import end_probes, look_probe, start_probe
from glmstudio.rundir.run import Run
from glmstudio.runs.start import start_run
from glmstudio.system import process
from glmstudio.units import size
from tests.waiting import until

SIX_B = ModelShape(layers=28, hidden=4096, ffn=13696, heads=32, groups=2, head_dim=128, vocab=65024)
SETTINGS = dataclasses.replace(load_preset("demo/ptuning_v2").settings, data=str(SAMPLE))


def card(gib: float) -> DeviceMemory:
    return DeviceMemory("0", "a card", round(gib * 2**30), round(gib * 2**30))


@pytest.mark.parametrize(
    ("gib", "method", "expected"),
    [
        (79.0, "ptuning_v2", (8192, "off", 0)),
        (23.5, "ptuning_v2", (4096, "off", 0)),
        (19.0, "ptuning_v2", (2048, "off", 0)),
        (15.7, "ptuning_v2", (1, "on", 15)),
        (13.2, "ptuning_v2", (1, "on", 0)),
        (23.5, "lora", (2048, "off", 0)),
    ],
)
def test_the_plan_takes_large_packs_where_they_fit_and_computes_as_few_layers_twice_as_it_must(
    gib: float, method: str, expected: tuple[int, str, int]
) -> None:
    settings = load_preset(f"chatglm3-6b/{method}").settings
    found = resolve_auto(settings, SIX_B, card(gib), at_most)

    assert (found.pack_tokens, found.gradient_checkpointing, found.checkpoint_layers) == expected
    if found.checkpoint_layers:
        less = dataclasses.replace(found, checkpoint_layers=found.checkpoint_layers - 1)
        assert not card(gib).holds(estimate(less, SIX_B, card(gib), at_most))
        assert card(gib).holds(estimate(found, SIX_B, card(gib), at_most))


def test_what_was_chosen_is_not_changed() -> None:
    preset = load_preset("chatglm3-6b/ptuning_v2").settings
    for changes in ({"gradient_checkpointing": "off"}, {"gradient_checkpointing": "on", "checkpoint_layers": 3}):
        for packs in ({"pack_tokens": 3000}, {"packing": False}):
            chosen = dataclasses.replace(preset, **changes, **packs)
            assert resolve_auto(chosen, SIX_B, card(13.0), at_most) == chosen


@pytest.mark.parametrize(
    ("gib", "changes", "expected"),
    [
        (15.7, {}, {"gradient_checkpointing": "on"}),
        (
            15.7,
            {"batch_size": 4, "accumulation": 4, "packing": False},
            {"gradient_checkpointing": "on", "batch_size": 2, "accumulation": 8},
        ),
        (15.7, {"pack_tokens": 8192}, {"pack_tokens": 0, "gradient_checkpointing": "on"}),
        (19.0, {"pack_tokens": 8192}, {"pack_tokens": 0}),
        (11.8, {}, {"gradient_checkpointing": "on", "base_bits": "8"}),
        (7.5, {}, {"gradient_checkpointing": "on", "base_bits": "4"}),
        (5.0, {}, {}),
        (23.5, {"method": "full"}, {}),
    ],
)
def test_the_remedy_is_the_gentlest_change_that_fits(
    gib: float, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    settings = dataclasses.replace(
        load_preset("chatglm3-6b/ptuning_v2").settings, **({"gradient_checkpointing": "off"} | changes)
    )
    found = remedy(settings, SIX_B, card(gib), at_most)

    assert found == expected
    if found:
        better = resolve_auto(dataclasses.replace(settings, **found), SIX_B, card(gib), at_most)
        assert card(gib).holds(estimate(better, SIX_B, card(gib), at_most))


def test_a_plan_counts_what_the_data_hold(home: Path) -> None:
    store = prepare(SAMPLE, DEMO / "model")
    chosen = store.select("stop", SETTINGS.max_length)
    plan = make_plan(SETTINGS, device_memory_of("cpu"), store, chosen)

    assert plan.longest == int(store.lengths.max())
    assert plan.epochs == pytest.approx(SETTINGS.steps * 8 / 2000)
    assert (plan.seconds, plan.probe.state, plan.problem) == (None, "absent", None)
    shorter = store.select("fix", 64)
    half = make_plan(dataclasses.replace(SETTINGS, validation_share=0.5), device_memory_of("cpu"), store, chosen)
    held = int(store.table.split(0.5, SETTINGS.seed).sum())
    assert (half.learned_from, half.held_back) == (2000 - held, held)
    assert half.epochs == SETTINGS.steps * 8 / (2000 - held), "what is only looked at is not gone through"
    less = make_plan(dataclasses.replace(SETTINGS, max_length=64), device_memory_of("cpu"), store, shorter)
    assert less.longest == 64
    assert less.need.activations < plan.need.activations


@pytest.mark.parametrize(("records", "passes", "fewer"), [(20, 580, 25), (1, 11_600, 1), (1160, 10, None)])
def test_many_passes_are_warned_of_with_fewer_steps(
    records: int, passes: float, fewer: int | None, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Q{n}?", "response": f"A{n}."}) + "\n" for n in range(records)))
    store = prepare(file, DEMO / "model")
    settings = dataclasses.replace(SETTINGS, steps=1450, data=str(file))
    plan = make_plan(settings, device_memory_of("cpu"), store, store.select("stop", 512))
    assert (plan.learned_from, plan.epochs, plan.fewer_steps) == (records, passes, fewer)
    if fewer:
        assert plan.passes_of(fewer) in range(5, 21)
        assert dict(plan_rows(plan))["steps"] == (
            f"1,450, which is {passes:,.1f} epochs over {records} conversations\n  After so many epochs, a model "
            f"often knows these answers by heart and has forgotten much else. For about {plan.passes_of(fewer)}: "
            f"--set steps={fewer}"
        )


def test_a_full_disk_and_a_full_memory_are_told_before_the_start(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = prepare(SAMPLE, DEMO / "model")
    chosen = store.select("stop", 512)
    tight = make_plan(SETTINGS, DeviceMemory("cpu", "", 10**8, 10**9), store, chosen)
    assert tight.problem is not None
    assert tight.problem.key == "runs.never_fits"
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**7})())
    full = make_plan(SETTINGS, device_memory_of("cpu"), store, chosen)
    assert full.problem is not None
    assert full.problem.what() == f"This run may take {size(full.disk)} of disk, and 10.0 MB are free."
    with pytest.raises(StudioError, match="of disk"):
        start_run(load_preset("demo/ptuning_v2"))
    assert not (home / "runs").exists()


def wait(settings: Settings, key: str) -> Any:
    until(lambda: look_probe(settings, "cpu", key).state != "running")
    return look_probe(settings, "cpu", key)


@pytest.mark.slow
def test_a_probe_measures_once_and_leaves_nothing(home: Path) -> None:
    store = prepare(SAMPLE, DEMO / "model")
    chosen = store.select("stop", 512)
    settings = make_plan(SETTINGS, device_memory_of("cpu"), store, chosen).settings
    start_probe(settings, "cpu", store.key)
    start_probe(settings, "cpu", store.key)
    probe = wait(settings, store.key)

    assert probe.state == "done", probe.problem
    assert probe.tokens_per_second > 0
    assert probe.memory > 10**8
    plan = make_plan(SETTINGS, device_memory_of("cpu"), store, chosen)
    per_step = chosen.tokens / chosen.used * 8
    assert plan.seconds == pytest.approx(SETTINGS.steps * per_step / probe.tokens_per_second)
    (folder,) = (home / "state/probes").iterdir()
    assert not (folder / "checkpoints").exists() or not list((folder / "checkpoints").iterdir())
    assert not (folder / "result").exists()
    until(lambda: not Run("probe", folder).processes())
    longer = dataclasses.replace(settings, steps=9999, save_every=3)
    assert look_probe(longer, "cpu", store.key) == probe, "how many steps there are does not change how long one takes"
    assert look_probe(dataclasses.replace(settings, batch_size=2), "cpu", store.key).state == "absent"


@pytest.mark.slow
def test_a_probe_that_is_ended_is_forgotten(home: Path) -> None:
    store = prepare(SAMPLE, DEMO / "model")
    start_probe(SETTINGS, "cpu", store.key)
    (file,) = (home / "state/probes").glob("*/run.json")
    identity = process.Identity.from_json(json.loads(file.read_text())["agent"])
    assert process.alive(identity)
    end_probes()
    assert not process.alive(identity)
    assert look_probe(SETTINGS, "cpu", store.key).state == "absent"


@pytest.mark.slow
def test_the_plan_as_a_command(home: Path) -> None:
    command = [sys.executable, "-m", "glmstudio", "train", "demo/smoke", "--set", "steps=10", "--plan", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)

    assert set(told) == {
        "fits", "device", "processes", "memory", "memory_free", "memory_total", "steps", "epochs", "longest",
        "tokens_per_second", "seconds", "measured_memory", "disk", "disk_free", "gradient_checkpointing", "checkpoint_layers", "at_once", "remedy", "problem", "command",
    }  # fmt: skip
    assert (told["fits"], told["device"], told["steps"], told["remedy"], told["problem"]) == (True, "cpu", 10, {}, None)
    assert (
        sum(value for name, value in told["memory"].items() if name not in ("total", "host")) == told["memory"]["total"]
    )
    assert told["seconds"] > 0
    assert told["command"] == "python launcher.py train demo/smoke --set steps=10"
    assert not (home / "runs").exists()
    bad = subprocess.run(
        [*command[:-2], "--set", "data=/no/such.jsonl", "--plan"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: There is no file /no/such.jsonl.")
