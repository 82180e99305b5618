"""The Doctor step: the verdict, problems and fixes, stale processes, GPUs, and all checks folded away."""

from __future__ import annotations

import time
from typing import Any

from glmstudio.doctor import Finding, Report
from glmstudio.doctor.engine.audit import sentence
from glmstudio.doctor.engine.check import FAMILIES
from glmstudio.doctor.fixes.fixes import FixOffer
from glmstudio.ui.doctor.gpu_cards import render_gpus
from glmstudio.ui.doctor.stale_view import render_jobs, render_stale
from glmstudio.ui.doctor.verdict import judge
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.markup import (
    Html,
    busy,
    button,
    commands,
    fold,
    go,
    icon,
    join,
    problem,
    prose,
    tag,
    terminal,
)
from glmstudio.ui.state.checkup import CHECKUP, CheckupState
from glmstudio.ui.state.page_state import PageState
from glmstudio.words import say

LOOKS = {
    "ok": "good",
    "info": "note",
    "warning": "attention",
    "error": "bad",
    "crash": "attention",
    "skipped": "waiting",
}
_CHANGES_SHOWN = 20


def build(page: PageRenderer) -> None:
    """The Doctor step inside the current Blocks."""
    with page.step("doctor"):
        page.panel("doctor", render, act)


def act(state: PageState, data: dict[str, Any]) -> PageState:
    """Handle a button: check again, apply a fix, or end the ticked processes."""
    if data.get("act") in ("check", "deep"):
        CHECKUP.clear()
        CHECKUP.start(deep=data["act"] == "deep")
    elif data.get("act") == "fix" and isinstance(data.get("which"), str):
        CHECKUP.fix(data["which"])
    elif data.get("act") == "end" and isinstance(data.get("ticked"), list):
        CHECKUP.end([token for token in data["ticked"] if isinstance(token, str)])
    return state


def render(lang: str, _state: PageState) -> Html:
    """The whole panel."""
    now = CHECKUP.state
    report = now.report
    parts = [_verdict(lang, now), _fixed(lang, now)]
    if report:
        notes = [result for result in report.findings if result.status == "info"]
        offered = [result for result in notes if result.key in now.offers]  # what has a button is no mere fact
        parts += [_finding(lang, now, result) for result in (*judge(report).cards, *offered)]
        parts += [render_stale(lang, now, CHECKUP.stale()), render_jobs(lang, report.jobs)]
        parts += [_details(lang, now, report, [note for note in notes if note not in offered])]
    elif now.running:
        parts += [_finding(lang, now, result) for result in now.arrived if result.is_finding]
    parts.append(
        terminal(lang, "python launcher.py doctor", "python launcher.py doctor --fix", key="doctor"),
    )
    return tag('<div class="gs-stack">{parts}</div>', parts=[part for part in parts if part])


def _details(lang: str, now: CheckupState, report: Report, notes: list[Finding]) -> Html:
    """The facts, folded: the GPUs, notes that ask for nothing, all checks, and what was changed."""
    folds = [render_gpus(lang, unfolded=any(each.family == "card" for each in report.problems))]
    if notes:
        body = tag('<div class="gs-stack">{notes}</div>', notes=[_finding(lang, now, note) for note in notes])
        folds.append(fold(say(lang, "ui.doctor.notes", n=len(notes)), body, key="notes"))
    folds += [_all_checks(lang, report, running=now.running), _changes(lang, now)]
    return tag('<section class="gs-card">{folds}</section>', folds=[each for each in folds if each])


def _verdict(lang: str, now: CheckupState) -> Html:
    look, title, text = _sentence(lang, now)
    good = look == "good"
    buttons = [button("check", say(lang, "ui.doctor.again"), look="plain" if good else "primary")]
    if now.report:
        # What is wrong may be nothing that the demo model needs, so nobody is kept from going on.
        following = go("model", say(lang, "ui.doctor.next"), look="primary" if good else "plain")
        buttons = [_copy_report(lang, now.report), *buttons, following]
    return tag(
        '<section class="gs-card gs-verdict gs-{look}">{icon}<div class="gs-grow"><h2>{title}</h2>'
        '<p class="gs-muted">{text}</p>{busy}</div><div class="gs-row">{buttons}</div></section>',
        look=look,
        icon=icon(look),
        title=title,
        text=text,
        busy=busy(title) if now.running else "",
        buttons=[] if now.running else buttons,
    )


def _sentence(lang: str, now: CheckupState) -> tuple[str, str, str]:
    report = now.report
    if now.running:
        text = say(lang, "ui.doctor.deep_text" if now.deep else "ui.doctor.checking_text")
        if now.fix and not now.fix.over:
            return "running", now.fix.offer.label(lang), now.fix.line or text
        if now.stage:
            return "running", say(lang, "ui.doctor.ending"), say(lang, f"doctor.stage.{now.stage}")
        done = len({result.id for result in now.arrived})
        return "running", say(lang, "ui.doctor.checking"), say(lang, "ui.doctor.progress", n=done) if done else text
    if report is None or now.failed:
        return "attention", say(lang, "ui.doctor.broken"), say(lang, "ui.doctor.broken_text")
    made = sum(result.status != "skipped" for result in report.results)
    summary = say(lang, "ui.doctor.summary", checks=made, seconds=f"{report.seconds:.1f}")
    verdict = judge(report)
    if verdict.count:
        return verdict.look, verdict.words(lang), summary
    if report.gpus:
        best = max(report.gpus, key=lambda gpu: gpu.free_mib)
        return "good", say(lang, "ui.doctor.ready_gpu", index=best.index), summary
    return "good", say(lang, "ui.doctor.ready_cpu"), summary


def _copy_report(lang: str, report: Report) -> Html:
    """A button that copies the report without names, paths or secrets."""
    return tag(
        '<span><pre hidden>{text}</pre><button type="button" class="gs-button gs-look-quiet" data-copy '
        'data-done="{done}" title="{hint}">{label}</button></span>',
        text=report.to_text(lang),
        done=say(lang, "ui.common.copied"),
        hint=say(lang, "ui.doctor.copy_hint"),
        label=say(lang, "ui.doctor.copy"),
    )


def _finding(lang: str, now: CheckupState, result: Finding) -> Html:
    offer = now.offers.get(result.key)
    look, why = LOOKS[result.status], result.why(lang)
    fix = result.fix(lang, button=offer is not None or result.action == "proc.end")
    return tag(
        '<section class="gs-card gs-finding gs-{look}" data-key="finding-{id}">{icon}<div><h3>{what}</h3>'
        "{why}{fix}{commands}{offer}</div></section>",
        look=look,
        id=result.key,
        icon=icon(look),
        what=result.what(lang),
        why=tag('<p class="gs-muted">{why}</p>', why=prose(why)) if why else "",
        fix=tag('<p class="gs-fix">{fix}</p>', fix=prose(fix)) if fix else "",
        commands=commands(lang, fix, key=f"fix-{result.key}"),
        offer="" if offer is None or now.running else _offer(lang, result.key, offer),
    )


def _offer(lang: str, key: str, offer: FixOffer) -> Html:
    """A fix: what it would change, and its button."""
    act = button(
        "fix",
        offer.label(lang),
        which=key,
        confirm=offer.question(lang),
        yes=offer.label(lang),
        no=say(lang, "ui.common.cancel"),
    )
    return tag('<pre class="gs-diff">{shown}</pre><div class="gs-row">{act}</div>', shown=offer.shown, act=act)


def _fixed(lang: str, now: CheckupState) -> Html:
    """The result of the last fix."""
    if now.fix is None or not now.fix.over:
        return Html("")
    if now.fix.problem:
        return problem(lang, now.fix.problem)
    return tag(
        '<div class="gs-problem gs-good" role="status">{icon}<div>{text}</div></div>',
        icon=icon("good"),
        text=now.fix.offer.done(lang),
    )


def _all_checks(lang: str, report: Report, *, running: bool) -> Html:
    families: dict[str, list[Html]] = {}
    for result in report.results:
        if result.status != "skipped":
            families.setdefault(result.family, []).append(_check(lang, result))
    body = [
        tag(
            '<div class="gs-family"><h4>{name}</h4>{checks}</div>',
            name=say(lang, f"doctor.family.{name}"),
            checks=checks,
        )
        for name in FAMILIES
        if (checks := families.get(name))
    ]
    skipped = [result.title(lang) for result in report.results if result.status == "skipped"]
    if skipped:
        names = say(lang, "ui.doctor.skipped", names=say(lang, "ui.doctor.comma").join(skipped))
        body.append(tag('<p class="gs-small">{names}</p>', names=names))
    if not running:
        deep = button("deep", say(lang, "ui.doctor.deep"), look="quiet")
        body.append(tag('<div class="gs-row">{deep}</div>', deep=deep))
    count = sum(map(len, families.values()))
    return fold(say(lang, "ui.doctor.all", n=count), join(body), key="all-checks")


def _check(lang: str, result: Finding) -> Html:
    look = LOOKS[result.status]
    state = tag(' <span class="gs-small">({word})</span>', word=say(lang, f"doctor.status.{result.status}"))
    return tag(
        '<div class="gs-check gs-{look}" data-key="check-{id}">{icon}<span>{title}{state}</span>'
        '<span class="gs-muted">{fact}</span></div>',
        look=look,
        id=result.key,
        icon=icon(look),
        title=result.title(lang),
        state="" if result.status == "ok" else state,
        fact=result.fact(lang),
    )


def _changes(lang: str, now: CheckupState) -> Html:
    """Everything that the doctor changed here, newest first, and what can be undone."""
    told = now.changes[:_CHANGES_SHOWN]
    undo = {key: offer for key, offer in now.offers.items() if key.startswith("undo-")}
    if not told and not undo:
        return Html("")
    lines = [
        tag(
            '<li><span class="gs-small gs-number">{time}</span> {text}</li>',
            time=time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["time"])),
            text=prose(sentence(entry, lang)),
        )
        for entry in told
    ]
    offers = [] if now.running else [_offer(lang, *pair) for pair in undo.items()]
    body = [tag('<ul class="gs-plain">{lines}</ul>', lines=lines), *offers]
    return fold(say(lang, "ui.doctor.changes", n=len(told)), body, key="changes")
