"""The runs: the list with the queue, and the open run. Pure functions of what is on disk."""

from __future__ import annotations

import shlex
from functools import lru_cache

from glmstudio.rundir.checkpoints import latest
from glmstudio.rundir.queue_file import waiting
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run
from glmstudio.rundir.state import RunState
from glmstudio.runs.tracking import TRACKERS, tracking_problem
from glmstudio.ui.framework.charts import sparkline
from glmstudio.ui.framework.markup import Html, bar, busy, button, chip, empty, problem, tag, terminal
from glmstudio.ui.runs import (
    after_view,
    checkpoints_view,
    facts_view,
    hardware_strip,
    log_view,
    machines_view,
    publish_view,
    ranks_view,
    run_detail,
)
from glmstudio.ui.state.page_state import RunsState
from glmstudio.ui.state.runwatch import WATCH, RunSnapshot, live_run, newest_first
from glmstudio.units import duration, moment
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
_FIRST = 60  # runs in the list until somebody asks for all
_CHAT_THERE = ("runs.chat_loaded", "runs.waits_for_chat")


def render_list(lang: str, runs_state: RunsState) -> Html:
    """Every run, newest first; ticked ones can be compared."""
    runs = newest_first()
    if not runs:
        return empty(say(lang, "ui.finetune.empty"), say(lang, "ui.finetune.empty_text"), icon_name="finetune")
    opened = shown(runs_state)
    name = opened.name if opened else None
    queue = waiting()
    places = {name: place for place, name in enumerate(queue, 1)}
    older = [each for each in runs[_FIRST:] if runs_state.all_runs or each.name in (name, *places)]
    seen = [*runs[:_FIRST], *older]
    rows = [
        _row(lang, known, state_words(lang, known), known.name == name, (places.get(known.name, 0), len(queue)))
        for known in seen
    ]
    compare = button("compare", say(lang, "ui.compare.button"), look="quiet", needs_ticks="") if len(runs) > 1 else ""
    return tag(
        '<div class="gs-stack" data-scope><div class="gs-row gs-spread"><h3>{title}</h3>{compare}</div>'
        '<div class="gs-runs">{rows}</div>{more}</div>',
        title=say(lang, "ui.finetune.runs"),
        compare=compare,
        rows=rows,
        more=button("all-runs", say(lang, "ui.finetune.all_runs", n=len(runs)), look="quiet")
        if len(seen) < len(runs)
        else "",
    )


def render_open(lang: str, runs_state: RunsState) -> Html:
    """The open run: figures, curve, log and actions."""
    known = shown(runs_state)
    if known is None:
        return Html("")
    run, state, quoted = known.run, known.state, shlex.quote(known.name)
    reading = WATCH.reading(known, with_log=True)
    commands = [f"python launcher.py runs {action} {quoted}" for action in ("show", "stop", "resume")]
    parts = [
        _head(lang, known),
        _progress(lang, known),
        _trouble(lang, run, state),
        after_view.render_next(lang, known),
        hardware_strip.render_hardware(lang, known),
        facts_view.render(lang, known),
        run_detail.render_figures(lang, known, reading),
        run_detail.render_records(lang, known),
        machines_view.render_joined(lang, known),
        ranks_view.render_ranks(lang, known),
        run_detail.render_curves(lang, known, reading),
        run_detail.render_samples(lang, reading),
        after_view.render_after(lang, known),
        publish_view.render(lang, known, runs_state) if known.has_result else "",
        checkpoints_view.render_checkpoints(lang, known),
        log_view.render_log(lang, known, reading, runs_state.log_find),
        run_detail.render_keeping(lang, known),
        terminal(lang, *commands, key="run"),
    ]
    return tag(
        '<section class="gs-card gs-stack" data-key="run-{name}">{parts}</section>',
        name=run.name,
        parts=[part for part in parts if part],
    )


def shown(runs_state: RunsState) -> RunSnapshot | None:
    """The run that the page shows: the one that was opened, or else the one in progress, or the newest."""
    runs = newest_first()
    if runs_state.run is not None:
        return next((known for known in runs if known.name == runs_state.run), None)
    return live_run() or (runs[0] if runs else None)


def share(state: RunState) -> float:
    """How far a run is, between 0 and 1."""
    return min(1.0, state.step / state.steps) if state.steps else 0.0


def look(known: RunSnapshot) -> str:
    """The shape of its state, as `chip` knows it."""
    return LOOKS[known.state.state] if known.begun or known.state.live else "waiting"


def state_words(lang: str, known: RunSnapshot) -> str:
    """The state of a run, with its percentage while it runs: the same in its row, in the rail and in the title."""
    state = known.state
    if state.live and WATCH.stopping(known.name):
        return say(lang, "ui.run.state_stopping")
    if not (known.begun or state.live):
        return say(lang, "ui.run.state_unbegun")
    return say(lang, f"ui.run.state_{state.state}", percent=int(share(state) * 100))


@lru_cache(maxsize=4000)  # of a run whose files are as they were, the row is, too
def _row(lang: str, known: RunSnapshot, words: str, opened: bool, queued: tuple[int, int]) -> Html:
    state, reading, (place, of) = known.state, WATCH.reading(known), queued
    return tag(
        '<div class="gs-runrow" data-key="row-{name}"><label class="gs-runtick"><input type="checkbox"'
        ' data-tick="{name}" value="{name}" aria-label="{tick}"></label><button type="button" class="gs-run"'
        ' data-act="open" data-run="{name}" aria-pressed="{opened}"><b>{name}</b>{spark}<span class="gs-small">{chip}'
        "<span>{steps}</span>"
        "<span>{when}</span></span>{bar}</button>{order}</div>",
        name=known.name,
        tick=say(lang, "ui.compare.tick", name=known.name),
        opened="true" if opened else "false",
        spark=sparkline(reading.points, label=say(lang, "ui.run.loss")),
        chip=chip(look(known), words),
        steps=say(lang, "ui.run.steps", step=state.step, steps=state.steps) if state.steps else "",
        when=moment(state.started),
        bar=bar(share(state), label=say(lang, "ui.run.progress")) if state.holds_device else "",
        order=_order(lang, known.name, place, of) if place else "",
    )


def _order(lang: str, name: str, place: int, of: int) -> Html:
    """The position of a queued run, counted from 1, and the buttons that move it."""
    up = _arrow("earlier", "↑", say(lang, "ui.run.earlier"), name) if place > 1 else ""
    down = _arrow("later", "↓", say(lang, "ui.run.later"), name) if place < of else ""
    return tag(
        '<span class="gs-row gs-order"><span class="gs-small">{place}</span>{up}{down}{leave}</span>',
        place=say(lang, "ui.run.place", n=place),
        up=up,
        down=down,
        leave=button("stop", say(lang, "ui.run.leave_queue"), look="quiet", run=name),
    )


def _arrow(act: str, sign: str, label: str, name: str) -> Html:
    return tag(
        '<button type="button" class="gs-button gs-look-quiet" data-act="{act}" data-run="{name}" aria-label="{label}"'
        ' title="{label}">{sign}</button>',
        act=act,
        name=name,
        label=label,
        sign=sign,
    )


def _head(lang: str, known: RunSnapshot) -> Html:
    about = [known.preset, known.model, known.data.rsplit("/", 1)[-1]]
    return tag(
        '<div class="gs-row gs-spread"><div><h2>{name}</h2><p class="gs-small">{about}</p></div>'
        '<div class="gs-row">{buttons}</div></div>',
        name=known.name,
        about=" · ".join(part for part in about if part),
        buttons=_buttons(lang, known),
    )


def _buttons(lang: str, known: RunSnapshot) -> list[Html]:
    if known.state.state == "queued":
        return [button("stop", say(lang, "ui.run.leave_queue"), run=known.name)]
    if known.state.live:
        words = {"yes": say(lang, "ui.run.stop_now"), "no": say(lang, "ui.run.keep_running")}
        confirm = say(lang, "ui.run.stop_now_confirm", name=known.name)
        return [
            button("stop", say(lang, "ui.run.stop"), run=known.name),
            button("stop-now", say(lang, "ui.run.stop_now"), look="danger", run=known.name, confirm=confirm, **words),
        ]
    made: list[Html] = []
    if known.state.state in ("stopped", "failed", "lost"):
        found = latest(known.run.path / RunFiles.CHECKPOINTS)
        words_ = say(lang, "ui.run.resume", step=found.step) if found else say(lang, "ui.run.resume_start")
        made.append(button("resume", words_, look="plain" if known.has_result else "primary", run=known.name))
    return made


def _progress(lang: str, known: RunSnapshot) -> Html:
    run, state = known.run, known.state
    stage = WATCH.stage(run.name) if WATCH.stopping(run.name) else None
    left = ""
    if state.validating is not None:
        left = say(lang, "ui.run.validating", percent=int(state.validating * 100))
    elif state.live and state.seconds_left is not None:
        left = say(lang, "ui.run.left", time=duration(lang, state.seconds_left))
    moving = state.holds_device and not state.step
    label = say(lang, "ui.run.progress")
    return tag(
        '<div class="gs-run-progress"><div class="gs-row gs-spread">'
        '{chip}<span class="gs-small gs-number">{left}</span></div>{bar}{proof}</div>',
        chip=chip(look(known), state_words(lang, known)),
        left=stage.text(lang) if stage else left,
        bar=busy(label) if moving else bar(share(state), label=label, kind=look(known)),
        proof=_proof(lang, run, state),
    )


def _proof(lang: str, run: Run, state: RunState) -> Html:
    """The verified result of a stop."""
    stage = WATCH.proof(run) if state.state == "stopped" else None
    return tag('<p class="gs-small gs-proof">{text}</p>', text=stage.text(lang)) if stage else Html("")


def _trouble(lang: str, run: Run, state: RunState) -> Html:
    found = [error for error in (state.problem, WATCH.problem(run.name), state.silence, state.slow) if error]
    tracker = tracking_problem(run) if str(run.settings.get("report_to")) in TRACKERS else None
    held = WATCH.held(run) if state.state == "queued" else None
    chat_there = [error for error in (WATCH.problem(run.name), held) if error and error.key in _CHAT_THERE]
    unload = {"run": run.name, "unload": "yes"}
    return tag(
        "{found}{tracker}{held}{unload}",
        tracker=problem(lang, tracker, kind="attention") if tracker else "",
        found=[problem(lang, error) for error in found],
        held=problem(lang, held, kind="note") if held else "",
        unload=button("unload" if held else "resume", say(lang, "ui.finetune.unload_start"), look="primary", **unload)
        if chat_there
        else "",
    )
