"""The one exception whose text a person may read."""

from __future__ import annotations

from typing import Any

from glmstudio.words import has, say


class StudioError(Exception):
    """Something went wrong that a person can mend.

    `key` names a table of the words files with `what` (what happened, naming the thing) and, where there is a
    remedy, `fix` (the command that helps), and `fix_page` where on the page it is a button. `values` fill in all.
    """

    def __init__(self, key: str, /, **values: Any) -> None:
        self.key = key
        self.values = values
        super().__init__(key, values)

    def what(self, lang: str = "en") -> str:
        """What happened, as a full sentence."""
        return say(lang, f"{self.key}.what", **self._said(lang))

    def fix(self, lang: str = "en", *, page: bool = False) -> str:
        """What to do about it in a terminal, or on the page; empty where nobody can say."""
        keys = [f"{self.key}.fix_page"] * page + [f"{self.key}.fix"]
        return next((say(lang, key, **self._said(lang)) for key in keys if has(key)), "")

    def _said(self, lang: str) -> dict[str, Any]:
        """The values; an error among them, or a tuple of errors, in this language."""
        return worded(self.values, lang)

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
    return StudioError("cli.system", reason=error.strerror or str(error), file=error.filename or "")


def worded(values: dict[str, Any], lang: str) -> dict[str, Any]:
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
    return value.what(lang) if isinstance(value, StudioError) else value


def _plain(value: Any) -> Any:
    """A value for JSON; an error among them, or a tuple of errors, stays one, so that it can speak any language."""
    if isinstance(value, StudioError):
        return {"error": value.to_json()}
    if isinstance(value, tuple):
        return {"all": [_plain(each) for each in value]}
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _whole(value: Any) -> Any:
    """What `_plain` was given."""
    if isinstance(value, dict) and "error" in value:
        return StudioError.from_json(value["error"])
    if isinstance(value, dict) and "all" in value:
        return tuple(_whole(each) for each in value["all"])
    return value
