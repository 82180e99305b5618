"""The kind of data that was chosen last, for a page that is opened again."""

from __future__ import annotations

from glmstudio.files import read_table, write_json
from glmstudio.paths import paths


def remember(source: str) -> None:
    """Remember the choice; only facts are restored."""
    write_json(paths().state / "way.json", {"source": source})


def remembered() -> str:
    """The last choice if it was facts, else none."""
    return "facts" if read_table(paths().state / "way.json").get("source") == "facts" else ""
