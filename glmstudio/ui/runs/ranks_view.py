"""The processes of a run with their times and memory."""

from __future__ import annotations

from typing import Any

from glmstudio.ui.framework.markup import Html, fold, tag
from glmstudio.ui.framework.stacking_table import table
from glmstudio.ui.state.runwatch import RunSnapshot
from glmstudio.units import memory_bytes, milliseconds
from glmstudio.words import say

_COLUMNS = ("rank", "machine", "computing", "reading", "held")


def render_ranks(lang: str, known: RunSnapshot) -> Html:
    """A row for each process, if there are several."""
    ranks = known.run.ranks()
    if len(ranks) < 2:
        return Html("")
    about = say(lang, "ui.team.about", step=max(each["step"] for each in ranks))
    shown = [
        tag('<p class="gs-small">{text}</p>', text=about),
        table([say(lang, f"ui.team.{name}") for name in _COLUMNS], [_rank(at, each) for at, each in enumerate(ranks)]),
    ]
    return fold(say(lang, "ui.team.label", n=len(ranks)), shown, key="ranks")


def _rank(rank: int, each: dict[str, Any]) -> list[Any]:
    return [
        rank,
        each["machine"],
        milliseconds(each.get("computing", 0.0)),
        milliseconds(each.get("reading", 0.0)),
        memory_bytes(each.get("memory", 0)),
    ]
