"""The bar below the form, always in view: the plan in one line, what stands in the way with its button, and Start."""

from __future__ import annotations

from typing import Any

from glmstudio.config.optional_packages import DEEPSPEED, OptionalPackage
from glmstudio.errors import StudioError
from glmstudio.planning.pace import DAY_S, ExpectedTime
from glmstudio.planning.plan import Plan
from glmstudio.ui.finetune.settings_form import labelled
from glmstudio.ui.framework.markup import Html, busy, button, go, icon, problem, prose, tag
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.form_state import FormState, read_form
from glmstudio.ui.state.kept_form import keep
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.ui.state.presets_here import time_here
from glmstudio.ui.state.runwatch import live_run
from glmstudio.units import duration, memory_bytes, number
from glmstudio.words import say

_MOST_GONE = 4
_OF_DATA = ("ui.finetune.no_data", "ui.finetune.no_file", "ui.teach.none_saved", "data.")
_NEEDS_DEEPSPEED = ("engines.no_deepspeed", "engines.deepspeed_broken")


def render_bar(lang: str, form: FinetuneState) -> Html:
    """What went wrong or stands in the way, and the plan in a line. What the browser watches stands in its marks."""
    found = read_form(form)
    return tag(
        '<div class="gs-startbar" data-key="bar" data-started="{started}" data-keep="form" data-kept="{kept}">'
        '{gone}{trouble}<div class="gs-row gs-small">{line}'
        '<span class="gs-starting" role="status">{icon}<span data-starting>{starting}</span></span></div></div>',
        started=form.started,
        kept=keep(form),
        gone=_gone(lang, form),
        trouble=_trouble(lang, form, found),
        line=[*_line(lang, found.plan), _going_on(lang, form)],
        icon=icon("running"),
        starting=say(lang, "ui.finetune.starting"),
    )


def start_button(lang: str, form: FinetuneState) -> dict[str, Any]:
    """The label of Start, and whether it can be pressed."""
    key = "ui.finetune.enqueue" if live_run() else "ui.finetune.start"
    return {"value": say(lang, key), "interactive": read_form(form).problem is None}


def passes(count: float) -> str:
    """Passes as one counts them: whole steps hardly ever make whole passes."""
    return number(round(count, 1) if count >= 1 else float(f"{count:.2g}"))


def takes(lang: str, time: ExpectedTime | None) -> str:
    """How long it takes, as measured here; of what only has a least time, that is told where it is days."""
    if time is None or (not time.measured and time.seconds < DAY_S):
        return ""
    return say(lang, f"ui.plan.{'takes' if time.measured else 'takes_at_least'}", time=duration(lang, time.seconds))


def told_by_data(found: FormState) -> bool:
    """Whether what stands in the way is told beside the data: then the bar only names it."""
    about_data = found.problem is not None and found.problem.key.startswith(_OF_DATA)
    return found.data is None and (found.look is not None or about_data)


def install(lang: str, extra: OptionalPackage) -> Html:
    """The button that installs an optional part; what pip says last, or why it failed, is shown."""
    last = extra.installation()
    if last.state == "running":
        label = say(lang, "ui.plan.installing", name=extra.title)
        return tag(
            '<div class="gs-run-progress"><span class="gs-small">{label}</span>{bar}<span class="gs-path">{line}</span>'
            "</div>",
            label=label,
            bar=busy(label),
            line=last.line[-120:],
        )
    return tag(
        '{failed}<div class="gs-row">{install}</div>',
        failed=problem(lang, last.problem) if last.problem else "",
        install=button(f"install-{extra.name}", say(lang, "ui.plan.install", name=extra.title), look="primary"),
    )


def _trouble(lang: str, form: FinetuneState, found: FormState) -> Html:
    """The one thing to see to first: a start that failed, the machine, or the form."""
    if form.form_problem:
        return _failed(lang, labelled(lang, form.form_problem))
    if form.settings_problem:
        return _brief(lang, labelled(lang, form.settings_problem))
    if found.problem is None:
        return _machine(lang) or _probe(lang, found.plan)
    if found.problem.key in _NEEDS_DEEPSPEED:
        return tag("{what}{install}", what=_blocked(lang, found.problem), install=install(lang, DEEPSPEED))
    if told_by_data(found):
        return _brief(lang, found.problem)
    return _blocked(lang, found.problem, _ways_out(lang, found))


def _gone(lang: str, form: FinetuneState) -> Html:
    """What of the form that the browser kept could not be taken again."""
    if not form.gone:
        return Html("")
    said = [tag("<li>{text}</li>", text=say(lang, key, **values)) for key, values in form.gone[:_MOST_GONE]]
    return tag(
        '<div class="gs-problem gs-note" role="status">{icon}<div><strong>{title}</strong>'
        '<ul class="gs-list">{said}</ul></div></div>',
        icon=icon("note"),
        title=say(lang, "ui.finetune.gone"),
        said=said,
    )


def _failed(lang: str, error: StudioError) -> Html:
    """A start, or another button, that did not work."""
    if error.key != "runs.chat_loaded":
        return problem(lang, error)
    return tag(
        '{shown}<div class="gs-row">{unload}{beside}</div>',
        shown=problem(lang, error),
        unload=button("unload-start", say(lang, "ui.finetune.unload_start"), look="primary"),
        beside=button("beside-start", say(lang, "ui.finetune.beside_start")),
    )


def _machine(lang: str) -> Html:
    """What the doctor found that would make a start fail; it looks again when Start is pressed."""
    report = CHECKUP.state.report
    worst = next((finding for finding in report.findings if finding.status == "error"), None) if report else None
    if worst is None:
        return Html("")
    return _blocked(lang, worst.to_error(), [go("doctor", say(lang, "ui.plan.doctor"), look="plain")])


def _probe(lang: str, plan: Plan | None) -> Html:
    return problem(lang, plan.probe.problem) if plan and plan.probe.problem else Html("")


def _ways_out(lang: str, found: FormState) -> list[Html]:
    """The clicks that help."""
    if found.plan is not None and found.plan.remedy:
        return [button("remedy", say(lang, "ui.plan.remedy"), look="primary")]
    if found.problem is not None and found.problem.key == "data.file_problems":
        return [button("policy", say(lang, f"ui.data.policy_{name}"), policy=name) for name in ("drop", "fix")]
    return []


def _blocked(lang: str, error: StudioError, buttons: list[Html] | None = None) -> Html:
    return tag(
        '{what}<div class="gs-row">{buttons}</div>' if buttons else "{what}",
        what=problem(lang, error, kind="attention"),
        buttons=buttons or [],
    )


def _brief(lang: str, error: StudioError) -> Html:
    return tag('<p class="gs-small">{icon} {what}</p>', icon=icon("attention"), what=prose(error.what(lang)))


def _line(lang: str, plan: Plan | None) -> list[Html]:
    """Memory, passes and time."""
    if plan is None:
        return []
    where = plan.place.name or say(lang, "ui.plan.cpu")
    memory = say(
        lang, "ui.plan.memory", need=memory_bytes(plan.need.total), free=memory_bytes(plan.place.free), device=where
    )
    through = say(lang, "ui.plan.line", steps=plan.settings.steps, passes=passes(plan.epochs), n=plan.learned_from)
    parts = [memory, through, *filter(None, [takes(lang, time_here(plan))])]
    return [tag('<span class="gs-number">{part}</span>', part=part) for part in parts]


def _going_on(lang: str, form: FinetuneState) -> Html:
    """That the page may be closed, while something trains."""
    if form.form_problem or not live_run():
        return Html("")
    return tag("<strong>{icon} {text}</strong>", icon=icon("good"), text=say(lang, "ui.finetune.close"))
