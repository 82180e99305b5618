"""The Doctor step: one sentence, what needs a person, the GPUs, stale processes, and every check folded away."""

from __future__ import annotations

from typing import Any

import gradio as gr

from glmstudio.doctor import Gpu, Report, Result, StaleProcess
from glmstudio.ui.checkup import CHECKUP
from glmstudio.ui.live import Page, View
from glmstudio.ui.markup import Safe, bar, busy, button, commands, fold, go, icon, join, prose, tag, terminal
from glmstudio.ui.units import duration, memory
from glmstudio.words import has, say

LOOKS = {"ok": "good", "info": "note", "warning": "attention", "error": "bad", "crash": "bad", "skipped": "waiting"}
_WORST_FIRST = ("crash", "error", "warning")


def build(page: Page) -> None:
    """The Doctor step inside the current Blocks."""
    with gr.Column(elem_id="step-doctor", elem_classes="gs-step"):
        page.panel("doctor", render, act)


def act(view: View, data: dict[str, Any]) -> View:
    """A button of the panel: check again, or end the processes that are ticked."""
    if data.get("act") == "check":
        CHECKUP.ended = []
        CHECKUP.start()
    elif data.get("act") == "end" and isinstance(data.get("ticked"), list):
        CHECKUP.end([token for token in data["ticked"] if isinstance(token, str)])
    return view


def findings(report: Report) -> list[Result]:
    """What needs a person, worst first."""
    return [result for status in _WORST_FIRST for result in report.results if result.status == status]


def render(lang: str, _view: View) -> Safe:
    """The whole panel."""
    report = CHECKUP.report
    parts = [_verdict(lang, report)]
    if report:
        parts += [_finding(lang, result) for result in findings(report)]
        parts += [_stale(lang, report.stale), _gpus(lang), _all_checks(lang, report)]
    parts.append(terminal(lang, "python launcher.py doctor", key="doctor"))
    return tag('<div class="gs-stack">{parts}</div>', parts=[part for part in parts if part])


def _verdict(lang: str, report: Report | None) -> Safe:
    look, title, text = _sentence(lang, report)
    again = button("check", say(lang, "ui.doctor.again"), look="plain" if look == "good" else "primary")
    buttons = [again, go("model", say(lang, "ui.doctor.next"))] if look == "good" else [again]
    return tag(
        '<section class="gs-card gs-verdict gs-{look}">{icon}<div class="gs-grow"><h2>{title}</h2>'
        '<p class="gs-muted">{text}</p>{busy}</div><div class="gs-row">{buttons}</div></section>',
        look=look,
        icon=icon(look),
        title=title,
        text=text,
        busy=busy(title) if CHECKUP.running else "",
        buttons=[] if CHECKUP.running else buttons,
    )


def _sentence(lang: str, report: Report | None) -> tuple[str, str, str]:
    if CHECKUP.running:
        return "running", say(lang, "ui.doctor.checking"), say(lang, "ui.doctor.checking_text")
    if report is None or CHECKUP.failed:
        return "attention", say(lang, "ui.doctor.broken"), say(lang, "ui.doctor.broken_text")
    found = findings(report)
    summary = say(lang, "ui.doctor.summary", checks=len(report.results), seconds=f"{report.seconds:.1f}")
    if found:
        worst = "bad" if found[0].status != "warning" else "attention"
        return (
            worst,
            say(lang, "ui.doctor.needs_one" if len(found) == 1 else "ui.doctor.needs_many", n=len(found)),
            summary,
        )
    if report.gpus:
        best = max(report.gpus, key=lambda gpu: gpu.free_mib)
        return "good", say(lang, "ui.doctor.ready_gpu", index=best.index), summary
    return "good", say(lang, "ui.doctor.ready_cpu"), summary


def _finding(lang: str, result: Result) -> Safe:
    look, why, fix = LOOKS[result.status], result.why(lang), result.fix(lang)
    return tag(
        '<section class="gs-card gs-finding gs-{look}" data-key="finding-{id}">{icon}<div><h3>{what}</h3>'
        "{why}{fix}{commands}</div></section>",
        look=look,
        id=result.key,
        icon=icon(look),
        what=result.what(lang) or result.fact(lang) or result.title(lang),
        why=tag('<p class="gs-muted">{why}</p>', why=prose(why)) if why else "",
        fix=tag('<p class="gs-fix">{fix}</p>', fix=prose(fix)) if fix else "",
        commands=commands(lang, fix, key=f"fix-{result.key}"),
    )


def _gpus(lang: str) -> Safe:
    gpus = CHECKUP.gpus()
    if not gpus:
        return tag(
            '<section class="gs-card gs-finding gs-note">{icon}<div><h3>{title}</h3>'
            '<p class="gs-muted">{text}</p></div></section>',
            icon=icon("note"),
            title=say(lang, "ui.doctor.no_gpu"),
            text=say(lang, "ui.doctor.no_gpu_text"),
        )
    return tag('<div class="gs-cards">{cards}</div>', cards=[_gpu(lang, gpu) for gpu in gpus])


def _gpu(lang: str, gpu: Gpu) -> Safe:
    used = gpu.total_mib - gpu.free_mib
    rows = [
        tag(
            "<tr><td>{pid}</td><td>{name}</td><td>{user}</td><td>{used}</td></tr>",
            pid=process.pid,
            name=process.name,
            user=process.user,
            used="–" if process.used_mib is None else memory(process.used_mib),
        )
        for process in gpu.processes
    ]
    heads = [
        tag("<th>{name}</th>", name=say(lang, f"ui.doctor.column_{name}")) for name in ("pid", "name", "user", "memory")
    ]
    table = tag(
        '<table class="gs-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>', heads=heads, rows=rows
    )
    return tag(
        '<section class="gs-card" data-key="gpu-{index}"><div class="gs-row gs-spread"><h3>{title}</h3>'
        '<span class="gs-small">{heat}</span></div>'
        '<p class="gs-small gs-number">{figures}</p>{bar}{table}</section>',
        index=gpu.index,
        title=f"GPU {gpu.index} · {gpu.name}",
        heat="" if gpu.temperature_c is None else f"{gpu.temperature_c} °C",
        figures=say(lang, "ui.doctor.gpu_memory", used=memory(used), total=memory(gpu.total_mib)),
        bar=bar(used / max(1, gpu.total_mib), label=say(lang, "ui.doctor.column_memory")),
        table=table if rows else tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.doctor.gpu_idle")),
    )


def _stale(lang: str, stale: tuple[StaleProcess, ...]) -> Safe:
    ended = [tag("<li>{icon}{text}</li>", icon=icon("note"), text=result.text(lang)) for result in CHECKUP.ended]
    done = tag('<ul class="gs-plain" role="status">{items}</ul>', items=ended) if ended else Safe("")
    if not stale:
        return tag('<section class="gs-card">{done}</section>', done=done) if ended else Safe("")
    confirm = button(
        "end",
        say(lang, "ui.doctor.end"),
        look="danger",
        confirm=say(lang, "ui.doctor.end_confirm", which="%s"),
        needs_ticks="",
        yes=say(lang, "ui.doctor.end"),
        no=say(lang, "ui.common.cancel"),
    )
    heads = [
        tag("<th>{name}</th>", name=say(lang, f"ui.doctor.column_{name}")) for name in ("command", "age", "reason")
    ]
    return tag(
        '<section class="gs-card gs-stack" data-key="stale"><h3>{title}</h3><p class="gs-muted">{text}</p>'
        '<table class="gs-table"><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table>{done}'
        '<div class="gs-row">{confirm}</div></section>',
        title=say(lang, "ui.doctor.stale"),
        text=say(lang, "ui.doctor.stale_text"),
        heads=heads,
        rows=[_stale_row(lang, process) for process in stale],
        done=done,
        confirm=confirm,
    )


def _stale_row(lang: str, process: StaleProcess) -> Safe:
    return tag(
        '<tr data-key="stale-{token}"><td>'
        '<input type="checkbox" data-tick="{pid}" value="{token}"{ticked} aria-label="{label}"></td>'
        '<td><span class="gs-path">{pid}</span> <span class="gs-path">{command}</span></td><td>{age}</td><td>{why}'
        "</td></tr>",
        token=process.token,
        ticked=Safe(" checked") if process.ticked else "",
        label=say(lang, "ui.doctor.tick", pid=process.identity.pid),
        pid=process.identity.pid,
        command=process.command[:160],
        age=duration(lang, process.age_s),
        why=process.why(lang),
    )


def _all_checks(lang: str, report: Report) -> Safe:
    families: dict[str, list[Safe]] = {}
    for result in report.results:
        families.setdefault(result.family, []).append(_check(lang, result))
    body = [
        tag('<div class="gs-family"><h4>{name}</h4>{checks}</div>', name=_family(lang, name), checks=checks)
        for name, checks in families.items()
    ]
    title = say(lang, "ui.doctor.all", n=len(report.results))
    return tag(
        '<section class="gs-card">{fold}</section>',
        fold=fold(title, join(body), key="all-checks", unfolded=not findings(report)),
    )


def _check(lang: str, result: Result) -> Safe:
    look = LOOKS[result.status]
    return tag(
        '<div class="gs-check gs-{look}" data-key="check-{id}">{icon}<span>{title}{state}</span>'
        '<span class="gs-muted">{fact}</span></div>',
        look=look,
        id=result.key,
        icon=icon(look),
        title=result.title(lang),
        state=""
        if result.status == "ok"
        else tag(' <span class="gs-small">({word})</span>', word=say(lang, f"ui.doctor.status_{result.status}")),
        fact=result.fact(lang),
    )


def _family(lang: str, name: str) -> str:
    key = f"doctor.family.{name}"
    return say(lang, key) if has(key) else name
