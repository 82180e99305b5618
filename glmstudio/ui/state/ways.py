"""The way to begin that was chosen last, so that a page that is loaded anew opens where its owner was."""

from __future__ import annotations

from glmstudio.files import read_table, write_json
from glmstudio.paths import paths


def remember(source: str) -> None:
    """Facts are found again; the other ways begin as they always do."""
    write_json(paths().state / "way.json", {"source": source})


def remembered() -> str:
    """What was chosen last: facts, else the sample."""
    return "facts" if read_table(paths().state / "way.json").get("source") == "facts" else "sample"
