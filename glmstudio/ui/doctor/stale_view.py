"""Leftover processes with a tick box and a reason for each; and other trainings, which are left alone."""

from __future__ import annotations

from glmstudio.doctor import OtherTraining, StaleProcess
from glmstudio.ui.framework.markup import Html, button, icon, prose, tag
from glmstudio.ui.state.checkup import CheckupState
from glmstudio.units import duration
from glmstudio.words import say


def render_stale(lang: str, now: CheckupState, stale: tuple[StaleProcess, ...]) -> Html:
    """The table, and the result for those that were ended last."""
    ended = [tag("<li>{icon}{text}</li>", icon=icon("note"), text=result.text(lang)) for result in now.ended]
    done = tag('<ul class="gs-plain" role="status">{items}</ul>', items=ended) if ended else Html("")
    if not stale:
        return tag('<section class="gs-card">{done}</section>', done=done) if ended else Html("")
    heads = [
        tag("<th>{name}</th>", name=say(lang, f"ui.doctor.column_{name}")) for name in ("command", "age", "reason")
    ]
    return tag(
        '<section class="gs-card gs-stack" data-key="stale"><h3>{title}</h3><p class="gs-muted">{text}</p>'
        '<div class="gs-row">{buttons}</div>{done}<table class="gs-table gs-stale"><thead><tr><td></td>{heads}</tr>'
        "</thead><tbody>{rows}</tbody></table></section>",
        title=say(lang, "ui.doctor.stale"),
        text=say(lang, "ui.doctor.stale_text"),
        heads=heads,
        rows=[_stale_row(lang, process) for process in stale],
        done=done,
        buttons=[] if now.running else _buttons(lang, stale),
    )


def _buttons(lang: str, stale: tuple[StaleProcess, ...]) -> list[Html]:
    """Tick all, and end what is ticked. A launcher without workers may wait for some: that is ticked by hand."""
    end = button(
        "end",
        say(lang, "ui.doctor.end"),
        look="danger",
        confirm=_question(lang, stale),
        needs_ticks="",
        yes=say(lang, "ui.doctor.end"),
        no=say(lang, "ui.common.cancel"),
    )
    count = sum(not process.idle for process in stale)
    every = tag(
        '<button type="button" class="gs-button gs-look-plain" data-tick-all>{label}</button>',
        label=say(lang, "ui.doctor.tick_all", n=count),
    )
    return [every, end] if count else [end]


def _question(lang: str, stale: tuple[StaleProcess, ...]) -> str:
    """The question before they are ended; busy ones are named, for they may be somebody's work."""
    question = say(lang, "ui.doctor.end_confirm", which="%s")
    busy = ", ".join(str(process.identity.pid) for process in stale if process.busy)
    return f"{question} {say(lang, 'ui.doctor.end_busy', pids=busy)}" if busy else question


def _stale_row(lang: str, process: StaleProcess) -> Html:
    return tag(
        '<tr data-key="stale-{pid}"><td><label class="gs-tick">'
        '<input type="checkbox" data-tick="{pid}" value="{token}"{ticked}{by_hand} aria-label="{label}"></label></td>'
        '<td><span class="gs-path">{pid}</span> <span class="gs-path">{command}</span>'
        '<p class="gs-small">{facts}</p></td><td data-label="{age_word}">{age}</td><td>{why}</td></tr>',
        token=process.token,
        ticked=Html(" checked") if process.ticked else "",
        by_hand=Html(" data-by-hand") if process.idle else "",
        label=say(lang, "ui.doctor.tick", pid=process.identity.pid),
        pid=process.identity.pid,
        command=process.command[:160],
        facts=process.facts(lang),
        age_word=say(lang, "ui.doctor.column_age"),
        age=duration(lang, process.age_s),
        why=prose(process.why(lang)),
    )


def render_jobs(lang: str, jobs: tuple[OtherTraining, ...]) -> Html:
    """Trainings of other programs: shown so that nobody wonders who uses the GPU, without a button."""
    if not jobs:
        return Html("")
    rows = [
        tag(
            '<tr data-key="job-{pid}"><td><span class="gs-path">{pid}</span> <span class="gs-path">{command}</span>'
            '<p class="gs-small">{facts}</p></td><td data-label="{age_word}">{age}</td><td>{why}</td></tr>',
            pid=job.pid,
            command=job.command[:160],
            facts=f"{job.user} · {say(lang, 'ui.doctor.workers', n=job.workers)}",
            age_word=say(lang, "ui.doctor.column_age"),
            age=duration(lang, job.age_s),
            why=job.why(lang),
        )
        for job in jobs
    ]
    heads = [tag("<th>{name}</th>", name=say(lang, f"ui.doctor.column_{name}")) for name in ("command", "age", "what")]
    return tag(
        '<section class="gs-card gs-stack" data-key="jobs"><h3>{title}</h3>'
        '<table class="gs-table gs-jobs"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></section>',
        title=say(lang, "ui.doctor.jobs"),
        heads=heads,
        rows=rows,
    )
