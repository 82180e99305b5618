"""The processes of a run with their times and memory."""

from __future__ import annotations

from typing import Any

from glmstudio.ui.framework.markup import Html, fold, tag
from glmstudio.ui.state.runwatch import RunSnapshot
from glmstudio.units import memory_bytes, milliseconds
from glmstudio.words import say

_COLUMNS = ("rank", "machine", "computing", "reading", "held")


def render_ranks(lang: str, known: RunSnapshot) -> Html:
    """A row for each process, if there are several."""
    ranks = known.run.ranks()
    if len(ranks) < 2:
        return Html("")
    heads = [tag("<th>{text}</th>", text=say(lang, f"ui.team.{name}")) for name in _COLUMNS]
    table = tag(
        '<p class="gs-small">{text}</p><div class="gs-wide-table"><table class="gs-table"><thead><tr>{heads}</tr>'
        "</thead><tbody>{rows}</tbody></table></div>",
        text=say(lang, "ui.team.about", step=max(each["step"] for each in ranks)),
        heads=heads,
        rows=[_rank(rank, each) for rank, each in enumerate(ranks)],
    )
    return fold(say(lang, "ui.team.label", n=len(ranks)), table, key="ranks")


def _rank(rank: int, each: dict[str, Any]) -> Html:
    return tag(
        "<tr><td>{rank}</td><td>{machine}</td><td>{computing}</td><td>{reading}</td><td>{held}</td></tr>",
        rank=rank,
        machine=each["machine"],
        computing=milliseconds(each.get("computing", 0.0)),
        reading=milliseconds(each.get("reading", 0.0)),
        held=memory_bytes(each.get("memory", 0)),
    )
