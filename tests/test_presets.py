"""Every shipped preset, and what is said about wrong ones."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from glmstudio.chat.adapters import adapter_folder
from glmstudio.config import devices
from glmstudio.config.devices import Card
from glmstudio.config.presets import list_presets, load_preset, parse_settings, render
from glmstudio.config.settings import Settings, change, field_docs
from glmstudio.errors import StudioError
from glmstudio.models import add_folder, find_model
from glmstudio.paths import SHIPPED_PRESETS
from glmstudio.planning import memory_fit
from glmstudio.planning.memory_fit import fit
from glmstudio.units import memory_bytes


def test_every_shipped_preset_is_parsed() -> None:
    files = sorted(SHIPPED_PRESETS.rglob("*.toml"))
    assert len(files) == 56
    assert len(list_presets()) == 56
    for file in files:
        name = file.relative_to(SHIPPED_PRESETS).with_suffix("").as_posix()
        preset = load_preset(name)
        assert preset.title("en") != name
        assert preset.title("zh") != name
        header = "\n".join(line[2:] for line in file.read_text(encoding="utf-8").split("\n\n")[0].splitlines())
        assert render(preset.settings, header=header) == file.read_text(encoding="utf-8"), (
            "comments are the settings' help"
        )


def test_the_published_preset_has_the_old_scripts_numbers() -> None:
    settings = load_preset("chatglm3-6b/ptuning_v2").settings
    assert (settings.prefix_length, settings.max_length, settings.batch_size, settings.accumulation) == (
        128,
        2048,
        1,
        16,
    )
    assert (settings.learning_rate, settings.steps, settings.save_every, settings.prefix_std) == (2e-2, 1000, 500, 1.0)


def test_the_full_presets_make_the_old_scripts_steps() -> None:
    """Sixteen conversations on each of four cards, in whatever portions they are computed."""
    for name in ("full_zero2", "full_zero3", "full_zero3_offload", "full_fsdp"):
        settings = load_preset(f"chatglm3-6b/{name}").settings
        assert (settings.max_length, settings.steps, settings.save_every, settings.learning_rate) == (
            2048,
            200,
            50,
            1e-4,
        )
        assert settings.batch_size * settings.accumulation == 64
        assert settings.processes == (1 if name.endswith("offload") else 4)
        assert settings.engine == name.removeprefix("full_")
    for method in ("ptuning_v2", "lora"):
        one, four = (load_preset(f"chatglm3-6b/{name}").settings for name in (method, f"{method}_4cards"))
        assert four == dataclasses.replace(one, processes=4)


def test_every_setting_has_words_in_both_languages() -> None:
    for lang in ("en", "zh"):
        docs = field_docs(Settings(), lang)
        assert [doc.name for doc in docs] == [field.name for field in dataclasses.fields(Settings)]
        assert all(doc.label and doc.help for doc in docs)


def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(StudioError) as caught:
        change(
            Settings(), {"stepz": 3, "steps": "many", "dtype": "int8", "seed": -1, "batch_size": True}, source="--set"
        )
    assert caught.value.what() == (
        "Some settings in --set are wrong. There is no setting stepz. The setting steps cannot be many; it must be "
        "a whole number. The setting dtype cannot be int8; it must be one of auto, float32, bfloat16, float16. The "
        "setting seed cannot be -1; it must be between 0 and 4294967295. The setting batch_size cannot be True; it "
        "must be a whole number."
    )


def test_errors_in_a_file_name_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('# mine\nsteps = 0\n\n  wrong_name = 3\n"seed" = "x"\nmodel = "demo"\n')
    with pytest.raises(StudioError) as caught:
        parse_settings(file)
    assert caught.value.what() == (
        f"Some settings in {file} are wrong. Line 2: The setting steps cannot be 0; it must be between 1 and "
        "10000000. Line 4: There is no setting wrong_name. Line 5: The setting seed cannot be x; it must be a "
        "whole number."
    )
    assert "第 4 行：没有名为 wrong_name 的设置。" in caught.value.what("zh")


CARDS = {
    "48": 47.0,
    "24": 23.5,
    "16": 15.7,
    "12": 11.8,
    "8": 7.6,
}  # GiB that a card of that size has free, beside a desktop


@pytest.mark.parametrize(
    ("preset", "card"),
    [
        ("chatglm3-6b/ptuning_v2", "24"),
        ("chatglm3-6b/ptuning_v2_16gb", "16"),
        ("chatglm3-6b/ptuning_v2_12gb", "12"),
        ("chatglm3-6b/lora", "24"),
        ("chatglm3-6b/lora_16gb", "16"),
        ("chatglm3-6b/lora_12gb", "12"),
        ("chatglm3-6b/smoke", "16"),
        ("chatglm3-6b-32k/ptuning_v2", "24"),
        ("chatglm3-6b-32k/lora", "24"),
        *(
            (f"{model}/{name}", card)
            for model in ("glm-4-9b-chat", "glm-4-9b-0414")
            for name, card in (
                ("lora", "24"), ("lora_16gb", "16"), ("lora_12gb", "12"), ("ptuning_v2", "24"), ("ptuning_v2_16gb", "16"),
                ("ptuning_v2_12gb", "12"), ("facts_lora", "24"), ("facts_lora_12gb", "12"),
            )
        ),
        *((f"glm-z1-9b-0414/{name}", card) for name, card in (("lora", "24"), ("lora_16gb", "16"), ("lora_12gb", "12"), ("facts_lora", "24"))),
        *((f"glm-edge-1.5b-chat/{name}", card) for name, card in (("lora", "8"), ("ptuning_v2", "8"), ("facts_lora", "8"), ("full", "48"))),
        *(
            (f"glm-edge-4b-chat/{name}", card)
            for name, card in (("lora", "12"), ("lora_8gb", "8"), ("ptuning_v2", "12"), ("facts_lora", "12"), ("facts_lora_8gb", "8"))
        ),
    ],
)  # fmt: skip
def test_a_preset_fits_the_card_that_it_is_made_for(preset: str, card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = round(CARDS[card] * 1024)
    monkeypatch.setattr(devices, "cards", lambda: [Card(f"GPU-{n}", n, "a card", free, free) for n in range(8)])
    found = fit(load_preset(preset).settings)

    assert found.need is not None
    assert (found.problem, found.place and found.place.device) == (None, "GPU-0")


@pytest.mark.parametrize("name", ["lora_cpu", "facts_lora_cpu"])
def test_a_laptop_with_16_gib_trains_the_smallest(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total=int(15.4 * 2**30), available=11 << 30)
    monkeypatch.setattr(memory_fit.psutil, "virtual_memory", lambda: memory)
    found = fit(load_preset(f"glm-edge-1.5b-chat/{name}").settings)
    assert found.problem is None
    assert found.need is not None
    assert found.need.total < 11 << 30


@pytest.mark.parametrize("model", ["glm-4-9b-chat", "glm-4-9b-0414", "glm-z1-9b-0414"])
def test_a_whole_9b_is_sharded_over_four_large_gpus(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 79 * 1024
    monkeypatch.setattr(devices, "cards", lambda: [Card(f"GPU-{n}", n, "a card", free, free) for n in range(4)])
    found = fit(load_preset(f"{model}/full_fsdp").settings)
    assert found.problem is None
    assert found.need is not None
    assert found.need.total < 68 << 30


def test_a_preset_that_cannot_run_here_says_why_and_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cards", lambda: [Card("GPU-0", 0, "a card", 11000, 11264)])
    found = fit(load_preset("chatglm3-6b/ptuning_v2_16gb").settings)

    assert found.problem is not None
    assert found.need is not None
    assert found.problem.what() == (
        f"This run needs about {memory_bytes(found.need.total)} of memory, and 11.0 GiB of 11.0 GiB are free."
    )
    assert found.problem.fix() == "It would fit with: gradient_checkpointing=on, base_bits=8."


def test_too_little_main_memory_is_told_in_the_same_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cards", lambda: [Card("GPU-0", 0, "a card", 24000, 24564)])
    monkeypatch.setattr(
        memory_fit.psutil, "virtual_memory", lambda: SimpleNamespace(total=32 << 30, available=30 << 30)
    )
    found = fit(load_preset("chatglm3-6b/full_zero3_offload").settings)

    assert found.problem is not None
    assert re.fullmatch(r".* about [\d.]+ GiB of main memory, and 32\.0 GiB are free\.", found.problem.what())


def test_text_becomes_the_fields_type() -> None:
    changed = change(Settings(), {"steps": "7", "learning_rate": "5e-5", "prefix_projection": "true"}, source="--set")
    assert (changed.steps, changed.learning_rate, changed.prefix_projection) == (7, 5e-5, True)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", ""])
def test_a_number_must_be_one(value: str) -> None:
    with pytest.raises(StudioError, match="learning_rate"):
        change(Settings(), {"learning_rate": value}, source="--set")


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("steps = = 3")
    with pytest.raises(StudioError, match=r"The preset .*bad\.toml cannot be read: "):
        parse_settings(file)


@pytest.mark.parametrize("name", ["nope", "../../etc/passwd", "/etc/passwd", "", "x" * 300, "a\0b"])
def test_an_unknown_preset_names_those_there_are(home: Path, name: str) -> None:
    with pytest.raises(
        StudioError,
        match="available: demo/facts, demo/full, demo/lora, demo/ptuning_v2, demo/smoke, chatglm3-6b-32k/lora, ",
    ):
        load_preset(name)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "~nobody-here/x", "", "nowhere"])
def test_a_name_that_no_folder_can_have_is_an_error(home: Path, name: str) -> None:
    with pytest.raises(StudioError, match="There is no model and no folder named"):
        find_model(name)
    with pytest.raises(StudioError, match="There is no folder"):
        add_folder(name)
    if name:
        with pytest.raises(StudioError, match="There is no fine-tuned model"):
            adapter_folder(name)
