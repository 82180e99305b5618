"""The settings of a run, each defined once.

A setting is a field of `Settings`. Its words (`settings.<name>` in the words files) are the label and the help in the
page, the comment in a preset file and the text of an error; its type and bounds check what is given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glmstudio.errors import LazyText, StudioError
from glmstudio.words import has, say

PACKED = 4096  # tokens of a pack, where no plan has said how many
LOSS_CHUNK = 1 << 25  # logits at once: 134 MB in float32

_KINDS = {
    "int": LazyText("presets.kind_int"),
    "float": LazyText("presets.kind_float"),
    "bool": LazyText("presets.kind_bool"),
    "str": LazyText("presets.kind_str"),
}


def _setting(
    default: Any, *, least: float | None = None, most: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a run goes. The words of each field say what it does and what a value costs."""

    model: str = _setting("demo")
    data: str = _setting("")
    bad_records: str = _setting("stop", choices=("stop", "drop", "fix"))
    facts_with_tools: float = _setting(0.0, least=0, most=0.9)
    facts_repeat: int = _setting(1, least=1, most=1000)
    rehearsal: float = _setting(0.0, least=0, most=0.95)
    validation: str = _setting("")
    validation_share: float = _setting(0.0, least=0, most=0.5)
    validation_auto: bool = _setting(True)
    method: str = _setting("ptuning_v2", choices=("ptuning_v2", "lora", "full"))
    warm_start: str = _setting("")
    prefix_length: int = _setting(128, least=1, most=4096)
    prefix_projection: bool = _setting(False)
    prefix_std: float = _setting(1.0, least=1e-6, most=100)
    prefix_dropout: float = _setting(0.1, least=0, most=0.9)
    lora_rank: int = _setting(8, least=1, most=1024)
    lora_alpha: float = _setting(32.0, least=1e-3, most=1e5)
    lora_dropout: float = _setting(0.1, least=0, most=0.9)
    lora_targets: str = _setting("attention", choices=("attention", "all"))
    max_length: int = _setting(2048, least=8, most=131072)
    batch_size: int = _setting(1, least=1, most=4096)
    accumulation: int = _setting(16, least=1, most=4096)
    packing: bool = _setting(True)
    pack_tokens: int = _setting(0, least=0, most=1_048_576)
    shared_prompts: int = _setting(1, least=1, most=1000)
    learning_rate: float = _setting(2e-2, least=1e-9, most=10)
    warmup_steps: int = _setting(0, least=0, most=1_000_000)
    max_grad_norm: float = _setting(1.0, least=1e-6, most=1e6)
    steps: int = _setting(1000, least=1, most=10_000_000)
    epochs: float = _setting(0.0, least=0, most=10_000)
    save_every: int = _setting(500, least=1, most=10_000_000)
    keep_checkpoints: int = _setting(3, least=1, most=1000)
    best_by: str = _setting("loss", choices=("loss", "facts"))
    early_stop: int = _setting(0, least=0, most=1000)
    checkpoint_form: str = _setting("whole", choices=("whole", "sharded"))
    sample_prompt: str = _setting("")
    report_to: str = _setting("none", choices=("none", "wandb", "swanlab", "trackio"))
    device: str = _setting("auto")
    processes: int = _setting(0, least=0, most=64)
    engine: str = _setting("ddp", choices=("ddp", "fsdp", "zero2", "zero3", "zero3_offload"))
    dtype: str = _setting("auto", choices=("auto", "float32", "bfloat16", "float16"))
    base_bits: str = _setting("16", choices=("16", "8", "4"))
    gradient_checkpointing: str = _setting("auto", choices=("auto", "on", "off"))
    checkpoint_layers: int = _setting(0, least=0, most=1000)
    compile: bool = _setting(False)
    loader_processes: int = _setting(0, least=0, most=64)
    seed: int = _setting(42, least=0, most=2**32 - 1)


def pack_limit(settings: Settings, longest: int) -> int:
    """The most tokens of a pack: as set, and no fewer than the longest conversation, which is never divided."""
    return max(settings.pack_tokens or PACKED, longest)


def on_one_prompt(settings: Settings) -> int:
    """How many conversations of a step share a prompt at most; 1 where none do."""
    most = min(settings.shared_prompts, settings.batch_size * settings.accumulation)
    return most if settings.packing else 1


@dataclass(frozen=True)
class FieldDoc:
    """How one setting is shown: its label, its help, the kind of its value, and the value."""

    name: str
    label: str
    help: str
    kind: str
    value: Any
    choices: tuple[str, ...]


def change(
    settings: Settings, changes: Mapping[str, Any], *, source: str, lines: Mapping[str, int] | None = None
) -> Settings:
    """Settings with some values replaced; text is turned into the field's type.

    Raises one StudioError for all unknown names and wrong values in `changes`; `source` says where they stand, and
    `lines` on which line each of them.
    """
    fields = {each.name: each for each in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    wrong: list[StudioError] = []
    for name, value in changes.items():
        try:
            values[name] = _checked(_field(fields, name), value)
        except StudioError as error:
            line = (lines or {}).get(name)
            wrong.append(StudioError("presets.on_line", line=line, wrong=error) if line else error)
    if wrong:
        raise StudioError("presets.wrong", source=source, errors=tuple(wrong))
    return dataclasses.replace(settings, **values)


def field_docs(settings: Settings, lang: str) -> list[FieldDoc]:
    """All settings as a form shows them."""
    return [
        FieldDoc(
            each.name,
            say(lang, f"settings.{each.name}.label"),
            say(lang, f"settings.{each.name}.help"),
            str(each.type),
            getattr(settings, each.name),
            each.metadata["choices"],
        )
        for each in dataclasses.fields(Settings)
    ]


def differences(before: Settings, after: Settings, lang: str) -> list[tuple[str, str, str]]:
    """The settings that differ: label, value before, value after."""
    return [
        (
            say(lang, f"settings.{each.name}.label"),
            choice_words(lang, getattr(before, each.name)),
            choice_words(lang, getattr(after, each.name)),
        )
        for each in dataclasses.fields(Settings)
        if getattr(before, each.name) != getattr(after, each.name)
    ]


def choice_words(lang: str, value: Any) -> str:
    """A value as a person reads it: a choice by its words, anything else as it is."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return say(lang, f"settings.choice.{text}") if has(f"settings.choice.{text}") else text


def _field(fields: Mapping[str, dataclasses.Field[Any]], name: str) -> dataclasses.Field[Any]:
    if name not in fields:
        raise StudioError("presets.no_setting", name=name)
    return fields[name]


def _checked(each: dataclasses.Field[Any], value: Any) -> Any:
    kind, bounds = str(each.type), each.metadata
    value = _typed(each.name, kind, value)
    if bounds["choices"] and value not in bounds["choices"]:
        raise StudioError("presets.not_a_choice", name=each.name, value=value, choices=", ".join(bounds["choices"]))
    if bounds["least"] is not None and not bounds["least"] <= value <= bounds["most"]:
        raise StudioError(
            "presets.out_of_bounds", name=each.name, value=value, least=bounds["least"], most=bounds["most"]
        )
    return value


def _typed(name: str, kind: str, value: Any) -> Any:
    try:
        if kind == "bool":
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False}[str(value).lower()]
        if kind == "int":
            if isinstance(value, str):
                return int(value)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        if kind == "float" and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                return number
        if kind == "str" and isinstance(value, str):
            value.encode()  # half a character, as a browser can send it, could never be written down
            return value
    except (KeyError, TypeError, ValueError):
        pass
    raise StudioError("presets.not_of_kind", name=name, value=value, kind=_KINDS[kind])
