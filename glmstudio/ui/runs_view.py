"""Runs as HTML: the list, and the one that is open. Pure functions of what is on disk."""

from __future__ import annotations

import shlex
from datetime import datetime

from glmstudio.runs.run import Run, RunState
from glmstudio.ui.charts import curve, sparkline
from glmstudio.ui.live import View
from glmstudio.ui.markup import Safe, bar, busy, button, chip, empty, fold, problem, tag, terminal
from glmstudio.ui.runwatch import WATCH, Known, Reading, live_run, newest_first
from glmstudio.units import duration, number
from glmstudio.words import say

LOOKS = {
    "queued": "waiting",
    "starting": "running",
    "running": "running",
    "stopping": "running",
    "finished": "good",
    "stopped": "note",
    "failed": "bad",
    "lost": "attention",
}


def render_list(lang: str, view: View) -> Safe:
    """Every run, newest first."""
    runs = newest_first()
    if not runs:
        return empty(say(lang, "ui.finetune.empty"), say(lang, "ui.finetune.empty_text"), icon_name="finetune")
    opened = shown(view)
    rows = [_row(lang, known, opened is not None and known.name == opened.name) for known in runs]
    return tag(
        '<div class="gs-stack"><h3>{title}</h3><div class="gs-runs">{rows}</div></div>',
        title=say(lang, "ui.finetune.runs"),
        rows=rows,
    )


def render_open(lang: str, view: View) -> Safe:
    """The run that is open: figures, curve, log, and what can be done with it."""
    known = shown(view)
    if known is None:
        return Safe("")
    run, state, quoted = known.run, known.state, shlex.quote(known.name)
    reading = WATCH.reading(run, with_log=True)
    parts = [
        _head(lang, known),
        _progress(lang, run, state),
        _trouble(lang, run, state),
        _figures(lang, state, reading),
        curve(reading.points, label=say(lang, "ui.run.loss"), x_label=say(lang, "ui.run.step"), last_x=state.steps),
        _log(lang, state, reading),
        terminal(lang, f"python launcher.py runs show {quoted}", f"python launcher.py runs stop {quoted}", key="run"),
    ]
    return tag(
        '<section class="gs-card gs-stack" data-key="run-{name}">{parts}</section>',
        name=run.name,
        parts=[part for part in parts if part],
    )


def shown(view: View) -> Known | None:
    """The run that the page shows: the one that was opened, or else the one in progress, or the newest."""
    runs = newest_first()
    if view.run is not None:
        return next((known for known in runs if known.name == view.run), None)
    return live_run() or (runs[0] if runs else None)


def share(state: RunState) -> float:
    """How far a run is, between 0 and 1."""
    return min(1.0, state.step / state.steps) if state.steps else 0.0


def state_words(lang: str, state: RunState) -> str:
    """The state of a run, with its percentage while it runs."""
    key = f"ui.run.state_{state.state}"
    return say(lang, key, percent=int(share(state) * 100))


def _row(lang: str, known: Known, opened: bool) -> Safe:
    state, reading = known.state, WATCH.reading(known.run)
    return tag(
        '<button type="button" class="gs-run" data-key="row-{name}" data-act="open"'
        ' data-run="{name}" aria-pressed="{opened}">'
        '<b>{name}</b>{spark}<span class="gs-small">{chip}<span>{steps}</span><span>{when}</span></span>{bar}</button>',
        name=known.name,
        opened="true" if opened else "false",
        spark=sparkline(reading.points, label=say(lang, "ui.run.loss")),
        chip=chip(LOOKS[state.state], state_words(lang, state)),
        steps=say(lang, "ui.run.steps", step=state.step, steps=state.steps) if state.steps else "",
        when=datetime.fromtimestamp(state.started).astimezone().strftime("%m-%d %H:%M") if state.started else "",
        bar=bar(share(state), label=say(lang, "ui.run.progress")) if state.live else "",
    )


def _head(lang: str, known: Known) -> Safe:
    about = [known.preset, known.model, known.data.rsplit("/", 1)[-1]]
    return tag(
        '<div class="gs-row gs-spread"><div><h2>{name}</h2><p class="gs-small">{about}</p></div>'
        '<div class="gs-row">{buttons}</div></div>',
        name=known.name,
        about=" · ".join(part for part in about if part),
        buttons=_buttons(lang, known),
    )


def _buttons(lang: str, known: Known) -> list[Safe]:
    if known.state.live:
        words = {"yes": say(lang, "ui.run.stop_now"), "no": say(lang, "ui.run.keep")}
        confirm = say(lang, "ui.run.stop_now_confirm", name=known.name)
        return [
            button("stop", say(lang, "ui.run.stop"), run=known.name),
            button("stop-now", say(lang, "ui.run.stop_now"), look="danger", run=known.name, confirm=confirm, **words),
        ]
    if known.has_result:
        # `data-go` opens the chat at once; the same click tells the server which adapter to load there.
        return [
            tag(
                '<button type="button" class="gs-button gs-look-primary" data-act="chat" data-go="chat"'
                ' data-run="{name}">{label}</button>',
                name=known.name,
                label=say(lang, "ui.run.chat"),
            )
        ]
    return []


def _progress(lang: str, run: Run, state: RunState) -> Safe:
    words = state_words(lang, state)
    if WATCH.stopping(run.name):
        stage = WATCH.stage(run.name)
        words = stage.text(lang) if stage else say(lang, "ui.run.stopping")
    moving = state.live and not state.step
    label = say(lang, "ui.run.progress")
    return tag(
        '<div class="gs-run-progress"><div class="gs-row gs-spread">'
        '{chip}<span class="gs-small gs-number">{left}</span></div>{bar}</div>',
        chip=chip(LOOKS[state.state], words),
        left=say(lang, "ui.run.left", time=duration(lang, state.seconds_left))
        if state.live and state.seconds_left is not None
        else "",
        bar=busy(label) if moving else bar(share(state), label=label, kind=LOOKS[state.state]),
    )


def _trouble(lang: str, run: Run, state: RunState) -> Safe:
    found = [error for error in (state.problem, WATCH.stop_problem(run.name)) if error]
    return tag("{found}", found=[problem(lang, error) for error in found])


def _figures(lang: str, state: RunState, reading: Reading) -> Safe:
    loss = state.loss if state.loss is not None else reading.last.get("loss")
    seconds = (state.ended - state.started) if state.ended else None
    figures = [
        ("step", f"{state.step:,} / {state.steps:,}" if state.steps else None),
        ("loss", number(loss) if isinstance(loss, (int, float)) else None),
        ("speed", number(state.tokens_per_second) if state.tokens_per_second else None),
        ("took", duration(lang, seconds) if seconds is not None else None),
    ]
    cells = [
        tag("<div><dt>{name}</dt><dd>{value}</dd></div>", name=say(lang, f"ui.run.figure_{name}"), value=value)
        for name, value in figures
        if value
    ]
    return tag('<dl class="gs-figures">{cells}</dl>', cells=cells) if cells else Safe("")


def _log(lang: str, state: RunState, reading: Reading) -> Safe:
    text = reading.log_tail()
    if not text.strip():
        return Safe("")
    body = tag('<pre class="gs-log" data-scroll tabindex="0">{text}</pre>', text=text)
    return fold(say(lang, "ui.run.log"), body, key="log", unfolded=state.state == "failed")
