"""Sentences that wait for their language, and the one exception that has them: its text a person may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glmstudio.words import has, say


@dataclass(frozen=True)
class LazyText:
    """A sentence by its key in the words files, and what fills it in: numbers, other texts, errors."""

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def text(self, lang: str = "en") -> str:
        """The sentence in that language."""
        return say(lang, self.key, **worded(self.values, lang))


class StudioError(Exception):
    """Something went wrong that a person can mend.

    `key` names a table of the words files with `what` (what happened, naming the thing) and, where there is a
    remedy, `fix` (the command that helps), and `fix_page` where on the page it is a button. `values` fill in all.
    """

    def __init__(self, key: str, /, **values: Any) -> None:
        self.key = key
        self.values = values
        super().__init__(key, values)

    @property
    def message(self) -> LazyText:
        """What happened."""
        return LazyText(f"{self.key}.what", self.values)

    def what(self, lang: str = "en") -> str:
        """What happened, as a full sentence."""
        return self.message.text(lang)

    def fix(self, lang: str = "en", *, page: bool = False) -> str:
        """What to do about it in a terminal, or on the page; empty where nobody can say."""
        keys = [f"{self.key}.fix_page"] * page + [f"{self.key}.fix"]
        return next((LazyText(key, self.values).text(lang) for key in keys if has(key)), "")

    def __str__(self) -> str:
        return " ".join(part for part in (self.what(), self.fix()) if part)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.key, self.values)

    def to_json(self) -> dict[str, Any]:
        """A form that survives a file: `from_json` gives the same error back."""
        return {"key": self.key, "values": {name: _plain(value) for name, value in self.values.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> StudioError:
        """The error that `to_json` wrote down."""
        return cls(data["key"], **{name: _whole(value) for name, value in data["values"].items()})


def refused(error: OSError) -> StudioError:
    """What the system said no to: a full disk, a folder that is closed to us."""
    return StudioError("system.refused", reason=error.strerror or str(error), file=error.filename or "")


def worded(values: Mapping[str, Any], lang: str) -> dict[str, Any]:
    """Values for a sentence: an error among them as what it says, and what it says to do under its name and `_fix`."""
    said = {}
    for name, value in values.items():
        said[name] = _worded(value, lang)
        if isinstance(value, StudioError):
            said[f"{name}_fix"] = value.fix(lang)
    return said


def _rebuild(key: str, values: dict[str, Any]) -> StudioError:
    return StudioError(key, **values)


def _worded(value: Any, lang: str) -> Any:
    if isinstance(value, tuple):
        return " ".join(str(_worded(each, lang)) for each in value)
    if isinstance(value, LazyText):
        return value.text(lang)
    return value.what(lang) if isinstance(value, StudioError) else value


def _plain(value: Any) -> Any:
    """A value for JSON; an error or a text, or a tuple of them, stays one, so that it can speak any language."""
    if isinstance(value, StudioError):
        return {"error": value.to_json()}
    if isinstance(value, LazyText):
        return {"text": [value.key, {name: _plain(each) for name, each in value.values.items()}]}
    if isinstance(value, tuple):
        return {"all": [_plain(each) for each in value]}
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _whole(value: Any) -> Any:
    """What `_plain` was given."""
    if isinstance(value, dict) and "error" in value:
        return StudioError.from_json(value["error"])
    if isinstance(value, dict) and "text" in value:
        key, values = value["text"]
        return LazyText(key, {name: _whole(each) for name, each in values.items()})
    if isinstance(value, dict) and "all" in value:
        return tuple(_whole(each) for each in value["all"])
    return value
