"""Presets: one small TOML file for a way to train, shipped with the studio or saved by its user."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from glmstudio.config.settings import Settings, change, differences, field_docs
from glmstudio.errors import StudioError
from glmstudio.files import parse_toml, read_text, write_text
from glmstudio.paths import SHIPPED_PRESETS, paths
from glmstudio.words import say

_KEY = re.compile(r"""^\s*["']?([\w-]+)["']?\s*=""")
_NAME = re.compile(r"[\w][\w.-]{0,59}(/[\w][\w.-]{0,59})?", re.UNICODE)


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
        return _inside(paths().presets, self.path)

    def title(self, lang: str) -> str:
        """The preset's name for people."""
        key = f"presets.{self.name.replace('/', '.')}"
        return _own(lang, f"{key}.title", self.name)

    def about(self, lang: str) -> str:
        """What it needs and gives, for people."""
        return _own(lang, f"presets.{self.name.replace('/', '.')}.about", "")


def list_presets() -> list[Preset]:
    """Every shipped preset, then the user's, by name. A file that is wrong is left out: `read_presets` tells why."""
    return read_presets()[0]


def read_presets() -> tuple[list[Preset], list[StudioError]]:
    """As `list_presets`, and what is wrong with the files that are left out."""
    presets: dict[str, Preset] = {}
    wrong: list[StudioError] = []
    for folder in (SHIPPED_PRESETS, paths().presets):
        for file in sorted(folder.rglob("*.toml")):
            name = file.relative_to(folder).with_suffix("").as_posix()
            try:
                presets[name] = Preset(name, file, parse_settings(file))
            except StudioError as error:
                wrong.append(error)
    return sorted(presets.values(), key=lambda preset: (preset.model != "demo", preset.name)), wrong


def find_preset(name: str) -> Preset:
    """The preset of that name, the user's before a shipped one. Raises StudioError, with everything wrong with it."""
    for folder in (paths().presets, SHIPPED_PRESETS):
        if file := _file(folder, name):
            return Preset(name, file, parse_settings(file))
    known = ", ".join(preset.name for preset in list_presets())
    raise StudioError("presets.unknown", name=name, known=known)


def load_preset(name: str) -> Preset:
    """As `find_preset`; or, for whoever types a command, the preset in that file."""
    try:
        return find_preset(name)
    except StudioError as error:
        if error.key != "presets.unknown" or not name.endswith(".toml") or not os.path.isfile(name):  # noqa: PTH113
            raise
    return Preset(Path(name).stem, Path(name), parse_settings(Path(name)))


def parse_settings(file: Path) -> Settings:
    """The settings of a preset file. Raises StudioError."""
    try:
        about = file.stat()
    except OSError as error:
        raise _unread(file, error) from error
    return _parsed(file, (about.st_mtime_ns, about.st_size, about.st_ino))


@lru_cache(maxsize=500)  # the page asks for all of them after each click
def _parsed(file: Path, _: tuple[int, int, int]) -> Settings:
    try:
        text = read_text(file)
        table = parse_toml(text)
    except (OSError, ValueError) as error:
        raise _unread(file, error) from error
    lines = {name: number for number, line in enumerate(text.splitlines(), 1) for name in _KEY.findall(line)}
    return change(Settings(), table, source=str(file), lines=lines)


def _unread(file: Path, error: Exception) -> StudioError:
    return StudioError("presets.not_toml", file=str(file), reason=str(error))


def shipped_like(preset: Preset) -> Preset:
    """The shipped preset that is nearest: of the same model and method where there is one, with the fewest
    differences; the preset itself where none is shipped for its model."""

    def distance(other: Preset) -> tuple[bool, int]:
        return other.settings.method != preset.settings.method, len(differences(other.settings, preset.settings, "en"))

    shipped = [each for each in list_presets() if not each.own and each.model == preset.model]
    return min(shipped, key=distance, default=preset)


def save_preset(name: str, settings: Settings) -> Preset:
    """Keep settings under a name of the user's, `folder/name` or `name`. Raises StudioError for a name of a shipped
    preset and for one that no file can have."""
    if not _NAME.fullmatch(name):
        raise StudioError("presets.bad_name", name=name)
    if (SHIPPED_PRESETS / f"{name}.toml").exists():
        raise StudioError("presets.shipped", name=name)
    file = paths().presets / f"{name}.toml"
    try:
        write_text(file, render(settings, header=f"{name}\nStart it with: python launcher.py train {name}"))
    except OSError as error:
        raise StudioError("presets.not_saved", file=str(file), reason=error.strerror or str(error)) from error
    return Preset(name, file, settings)


def delete_preset(name: str) -> None:
    """Delete a preset of the user's, whatever stands in it. Raises StudioError for a shipped one."""
    file = _file(paths().presets, name)
    if file is None:
        raise StudioError("presets.shipped", name=find_preset(name).name)
    file.unlink(missing_ok=True)


def with_lora_beside(name: str, model: str) -> Preset | None:
    """The preset of LoRA that stands beside one of P-Tuning v2: for the same memory and purpose where there is one,
    else the first of the model. Other engines have no place for a prefix."""
    known = {preset.name: preset for preset in list_presets() if preset.settings.method == "lora"}
    usual = (preset for preset in known.values() if preset.model == model)
    return known.get(name.replace("ptuning_v2", "lora").replace("ptuning", "lora")) or next(usual, None)


def render(settings: Settings, *, header: str) -> str:
    """A preset file: the header, then each setting under its help. `parse_settings` reads it back."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    for doc in field_docs(settings, "en"):
        lines += ["", f"# {doc.help}", f"{doc.name} = {_toml(doc.value)}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # A string of TOML is one of JSON, but for the sign 127.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name in the folder, where there is one; never one outside, whatever the name."""
    file = folder / f"{name}.toml"
    return file if _inside(folder, file) and os.path.isfile(file) else None  # noqa: PTH113


def _inside(folder: Path, file: Path) -> bool:
    return Path(os.path.normpath(file)).is_relative_to(os.path.normpath(folder))


def _own(lang: str, key: str, otherwise: str) -> str:
    try:
        return say(lang, key)
    except KeyError:
        return otherwise
