"""Compare runs: their losses in one chart, and the settings that differ."""

from __future__ import annotations

from typing import Any

from glmstudio.config.settings import Settings, choice_words, field_docs
from glmstudio.ui.framework.charts import Series, chart
from glmstudio.ui.framework.markup import Html, button, tag
from glmstudio.ui.framework.stacking_table import table
from glmstudio.ui.state.page_state import RunsState
from glmstudio.ui.state.runwatch import WATCH, RunSnapshot, newest_first
from glmstudio.units import number
from glmstudio.words import say

MOST = 4


def render_compare(lang: str, runs_state: RunsState) -> Html:
    """The chosen runs; nothing if fewer than two of them exist."""
    runs = [known for known in newest_first() if known.name in runs_state.compared][:MOST]
    if len(runs) < 2:
        return Html("")
    lines = [Series(known.name, WATCH.reading(known).points, "mean") for known in runs]
    kept = [
        Series(f"{known.name} · {say(lang, 'ui.run.figure_validation')}", points, "dots")
        for known in runs
        if (points := WATCH.reading(known).validation)
    ]
    x_label = say(lang, "ui.run.step")
    return tag(
        '<section class="gs-card gs-stack" data-key="compare"><div class="gs-row gs-spread"><h2>{title}</h2>{close}'
        "</div>{curve}{kept}{table}</section>",
        title=say(lang, "ui.compare.title"),
        close=button("uncompare", say(lang, "ui.compare.close"), look="quiet"),
        curve=chart(lang, lines, label=say(lang, "ui.run.loss"), x_label=x_label),
        kept=chart(lang, kept, label=say(lang, "ui.run.figure_validation"), x_label=x_label),
        table=_differences(lang, runs),
    )


def _differences(lang: str, runs: list[RunSnapshot]) -> Html:
    rows = [
        (say(lang, "ui.run.loss"), [_loss(known.state.loss) for known in runs]),
        (say(lang, "ui.run.figure_validation"), [_loss(known.state.validation_loss) for known in runs]),
    ]
    settings = [known.run.settings for known in runs]
    for doc in field_docs(Settings(), lang):
        values = [choice_words(lang, each.get(doc.name, "–")) for each in settings]
        if len(set(values)) > 1:
            rows.append((doc.label, values))
    shown = [[tag("<b>{label}</b>", label=label), *values] for label, values in rows if any(v != "–" for v in values)]
    return table(["", *(known.name for known in runs)], shown)


def _loss(value: Any) -> str:
    return number(value) if isinstance(value, (int, float)) else "–"
