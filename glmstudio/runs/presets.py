"""Presets: one small TOML file for a way to train, and the settings that it may hold.

A setting exists once, as a field of `Settings`. Its words (`settings.<name>` in the words files) are the label and the
help in the page, the comment in a preset file and the text of an error; its type and bounds check what is given.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import parse_toml, write_text
from glmstudio.paths import SHIPPED_PRESETS, paths
from glmstudio.words import has, say

_KEY = re.compile(r"""^\s*["']?([\w-]+)["']?\s*=""")
_NAME = re.compile(r"[\w][\w.-]{0,59}(/[\w][\w.-]{0,59})?", re.UNICODE)


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
    validation: str = _setting("")
    validation_share: float = _setting(0.0, least=0, most=0.5)
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
    learning_rate: float = _setting(2e-2, least=1e-9, most=10)
    warmup_steps: int = _setting(0, least=0, most=1_000_000)
    max_grad_norm: float = _setting(1.0, least=1e-6, most=1e6)
    steps: int = _setting(1000, least=1, most=10_000_000)
    save_every: int = _setting(500, least=1, most=10_000_000)
    keep_checkpoints: int = _setting(3, least=1, most=1000)
    sample_prompt: str = _setting("")
    device: str = _setting("auto")
    dtype: str = _setting("auto", choices=("auto", "float32", "bfloat16", "float16"))
    base_bits: str = _setting("16", choices=("16", "8", "4"))
    gradient_checkpointing: str = _setting("auto", choices=("auto", "on", "off"))
    loader_processes: int = _setting(0, least=0, most=64)
    seed: int = _setting(42, least=0, most=2**32 - 1)


@dataclass(frozen=True)
class Preset:
    """A named set of settings: `demo/ptuning_v2` is the file `presets/demo/ptuning_v2.toml`."""

    name: str
    path: Path
    settings: Settings

    @property
    def model(self) -> str:
        """The model that it tunes."""
        return self.settings.model

    @property
    def own(self) -> bool:
        """Whether its owner saved it; shipped ones are never changed."""
        return self.path.is_relative_to(paths().presets)

    def title(self, lang: str) -> str:
        """The preset's name for people."""
        key = f"presets.{self.name.replace('/', '.')}"
        return _own(lang, f"{key}.title", self.name)

    def about(self, lang: str) -> str:
        """What it needs and gives, for people."""
        return _own(lang, f"presets.{self.name.replace('/', '.')}.about", "")


@dataclass(frozen=True)
class FieldDoc:
    """How one setting is shown: its label, its help, the kind of its value, and the value."""

    name: str
    label: str
    help: str
    kind: str
    value: Any
    choices: tuple[str, ...]


def list_presets() -> list[Preset]:
    """Every shipped preset, then the user's, by name. A file that is wrong is left out: `load_preset` tells why."""
    presets: dict[str, Preset] = {}
    for folder in (SHIPPED_PRESETS, paths().presets):
        for file in sorted(folder.rglob("*.toml")):
            name = file.relative_to(folder).with_suffix("").as_posix()
            try:
                presets[name] = Preset(name, file, parse_settings(file))
            except StudioError:
                continue
    return sorted(presets.values(), key=lambda preset: (preset.model != "demo", preset.name))


def load_preset(name: str) -> Preset:
    """The preset of that name or of that file. Raises StudioError that lists everything wrong with it."""
    for folder in (paths().presets, SHIPPED_PRESETS):
        file = Path(os.path.normpath(folder / f"{name}.toml"))
        if file.is_relative_to(folder) and os.path.isfile(file):  # noqa: PTH113  never raises, whatever the name
            return Preset(name, file, parse_settings(file))
    if name.endswith(".toml") and os.path.isfile(name):  # noqa: PTH113
        return Preset(Path(name).stem, Path(name), parse_settings(Path(name)))
    known = ", ".join(preset.name for preset in list_presets())
    raise StudioError("presets.unknown", name=name, known=known)


def parse_settings(file: Path) -> Settings:
    """The settings of a preset file. Raises StudioError."""
    try:
        text = file.read_text(encoding="utf-8")
        table = parse_toml(text)
    except (OSError, ValueError) as error:
        raise StudioError("presets.not_toml", file=str(file), reason=str(error)) from error
    lines = {name: number for number, line in enumerate(text.splitlines(), 1) for name in _KEY.findall(line)}
    return change(Settings(), table, source=str(file), lines=lines)


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


def shipped_like(preset: Preset) -> Preset:
    """The shipped preset that is nearest: of the same model and method where there is one, with the fewest
    differences; the preset itself where none is shipped for its model."""

    def distance(other: Preset) -> tuple[bool, int]:
        return other.settings.method != preset.settings.method, len(differences(other.settings, preset.settings, "en"))

    shipped = [each for each in list_presets() if not each.own and each.model == preset.model]
    return min(shipped, key=distance, default=preset)


def choice_words(lang: str, value: Any) -> str:
    """A value as a person reads it: a choice by its words, anything else as it is."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return say(lang, f"settings.choice.{text}") if has(f"settings.choice.{text}") else text


def save_preset(name: str, settings: Settings) -> Preset:
    """Keep settings under a name of the user's, `folder/name` or `name`. Raises StudioError for a name of a shipped
    preset and for one that no file can have."""
    if not _NAME.fullmatch(name):
        raise StudioError("presets.bad_name", name=name)
    if (SHIPPED_PRESETS / f"{name}.toml").exists():
        raise StudioError("presets.shipped", name=name)
    file = paths().presets / f"{name}.toml"
    write_text(file, render(settings, header=f"{name}\nStart it with: python launcher.py train {name}"))
    return Preset(name, file, settings)


def delete_preset(name: str) -> None:
    """Delete a preset of the user's. Raises StudioError for a shipped one."""
    preset = load_preset(name)
    if not preset.own:
        raise StudioError("presets.shipped", name=name)
    preset.path.unlink(missing_ok=True)


def render(settings: Settings, *, header: str) -> str:
    """A preset file: the header, then each setting under its help. `parse_settings` reads it back."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    for doc in field_docs(settings, "en"):
        lines += ["", f"# {doc.help}", f"{doc.name} = {_toml(doc.value)}"]
    return "\n".join(lines) + "\n"


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
            return value
    except (KeyError, TypeError, ValueError):
        pass
    raise StudioError("presets.not_of_kind", name=name, value=value, kind=kind)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _own(lang: str, key: str, otherwise: str) -> str:
    try:
        return say(lang, key)
    except KeyError:
        return otherwise
