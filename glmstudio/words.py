"""Every sentence a person sees, in English and Chinese, looked up by key.

The words live in `text/<language>/<room>.toml`, or in several files of a folder `<room>/`; a key is
`<room>.<table>.<name>`. Values are filled in with `str.format`, so a sentence may show a number as `{size:.1f}`.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from glmstudio.files import read_toml

LANGUAGES = ("en", "zh")
_TEXT = Path(__file__).parent / "text"


def terminal_language() -> str:
    """The language of the terminal: Chinese where the locale is, else English."""
    chosen = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if chosen.lower().startswith("zh") else "en"


def say(lang: str, key: str, /, **values: Any) -> str:
    """The sentence `key` in `lang` (unknown languages read English). Raises KeyError for an unknown key."""
    table = words("zh" if lang.lower().startswith("zh") else "en")
    return table[key].format(**values)


def has(key: str) -> bool:
    """Whether there is a sentence for `key`."""
    return key in words("en")


@cache
def words(lang: str) -> dict[str, str]:
    """All sentences of one language, flattened to `{"room.table.name": text}`."""
    flat: dict[str, str] = {}
    for file in sorted((_TEXT / lang).rglob("*.toml")):
        room = file.relative_to(_TEXT / lang).parts[0].removesuffix(".toml")
        _flatten(room, read_toml(file), flat)
    return flat


def _flatten(prefix: str, value: Any, into: dict[str, str]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _flatten(f"{prefix}.{name}", inner, into)
    else:
        into[prefix] = value
