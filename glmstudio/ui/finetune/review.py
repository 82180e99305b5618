"""The review before a start: what is wrong with the data, what the run needs of this machine, and its command."""

from __future__ import annotations

from glmstudio.config.optional_packages import DEEPSPEED, DOCUMENTS, OptionalPackage
from glmstudio.config.settings import Settings
from glmstudio.data.store import Store
from glmstudio.errors import StudioError
from glmstudio.planning.memory import Need
from glmstudio.planning.plan import Plan
from glmstudio.ui.finetune import data_view
from glmstudio.ui.framework.markup import Html, bar, busy, button, fold, go, problem, tag, terminal
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.form_state import FormState, read_form
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.units import duration, number, size
from glmstudio.words import say

POLICIES = ("stop", "drop", "fix")
_NEEDS_DEEPSPEED = ("engines.no_deepspeed", "engines.deepspeed_broken")
_PARTS = ("weights", "adapter", "optimizer", "gradients", "activations", "logits", "fixed")


def render_data(lang: str, form: FinetuneState) -> Html:
    """The verdict on the data, what to do with bad records, how long they are, and one of them."""
    found = read_form(form)
    if found.look is None and found.problem and found.problem.key == "data.no_pdf_reader":
        return _missing(lang, found.problem, DOCUMENTS)
    if found.look is None:
        return problem(lang, found.problem, kind="attention") if found.problem else Html("")
    if found.data is None:
        return _reading(lang, found)
    settings = found.settings
    if settings is None:
        return Html("")
    if not found.data.records:
        return problem(lang, StudioError("data.file_empty", file=str(found.data.source)), kind="attention")
    limit = settings.max_length
    count = found.data.problem_count(limit)
    shown = found.data.problems(limit, data_view.SHOWN_PROBLEMS)
    return tag(
        '<div class="gs-stack">{verdict}{policy}{remarks}{more}</div>',
        verdict=data_view.verdict(lang, found.data.records, shown, count, found.selection, _held_back(found)),
        policy=_policies(lang, settings) if count else "",
        remarks=data_view.remarks(lang, found.data.notes),
        more=_closer(lang, form, found.data, settings),
    )


def render_plan(lang: str, form: FinetuneState) -> Html:
    """Memory, time, disk and the command; where it does not fit, what would make it fit, one click away."""
    found = read_form(form)
    parts: list[Html] = _doctor(lang)
    if found.plan is not None:
        parts += [_memory(lang, found.plan), _figures(lang, found.plan), _passes(lang, found.plan)]
        if found.plan.probe.problem:
            parts.append(problem(lang, found.plan.probe.problem))
    if found.problem and found.data is not None:
        parts.append(_trouble(lang, found))
    elif found.problem and found.look is None and found.settings is not None:
        parts.append(problem(lang, found.problem, kind="attention"))
    if found.request is not None:
        parts.append(terminal(lang, found.request.command(), f"{found.request.command()} --plan", key="train"))
    return tag('<div class="gs-stack gs-review">{parts}</div>', parts=parts)


def _doctor(lang: str) -> list[Html]:
    """What the doctor found that would make a start fail; it looks again when Start is pressed."""
    report = CHECKUP.state.report
    worst = next((finding for finding in report.findings if finding.status == "error"), None) if report else None
    if worst is None:
        return []
    look = go("doctor", say(lang, "ui.plan.doctor"), look="plain")
    return [tag("{what}<div>{look}</div>", what=problem(lang, worst.to_error(), kind="attention"), look=look)]


def _reading(lang: str, found: FormState) -> Html:
    look = found.look
    if look is None or look.problem:
        return problem(lang, found.problem)
    text = say(lang, "ui.data.reading", records=look.records)
    return tag(
        '<div class="gs-run-progress"><span class="gs-small">{text}</span>{bar}</div>',
        text=text,
        bar=bar(look.share, label=text),
    )


def _policies(lang: str, settings: Settings) -> Html:
    buttons = [
        tag(
            '<button type="button" data-act="policy" data-policy="{name}" aria-pressed="{on}">{label}</button>',
            name=name,
            on="true" if settings.bad_records == name else "false",
            label=say(lang, f"ui.data.policy_{name}"),
        )
        for name in POLICIES
    ]
    return tag(
        '<div class="gs-row"><span class="gs-small">{label}</span><span class="gs-segment" role="group">{buttons}'
        "</span></div>",
        label=say(lang, "ui.data.policy"),
        buttons=buttons,
    )


def _closer(lang: str, form: FinetuneState, store: Store, settings: Settings) -> Html:
    """How long the records are, and one of them as the model sees it."""
    if not len(store):
        return Html("")
    row = min(max(0, form.record), len(store) - 1)
    pieces = store.record_pieces(row, settings.max_length)
    return tag(
        "{lengths}{record}",
        lengths=fold(
            say(lang, "ui.data.lengths"),
            data_view.histogram(lang, store.histogram(settings.max_length), settings.max_length),
            key="data-lengths",
        ),
        record=fold(say(lang, "ui.data.look"), data_view.record(lang, pieces, row, len(store)), key="data-look"),
    )


def _memory(lang: str, plan: Plan) -> Html:
    """The need as a bar against what is free, part by part."""
    place, needed = plan.place, plan.need
    whole = max(place.free, needed.total, 1)
    fits = place.holds(needed)
    text = say(
        lang,
        "ui.plan.memory",
        need=size(needed.total),
        free=size(place.free),
        device=place.name or say(lang, "ui.plan.cpu"),
    )
    shares = [(name, getattr(needed, name)) for name in _PARTS if getattr(needed, name)]
    return tag(
        '<div class="gs-memory{over}"><div class="gs-row gs-spread"><b>{title}</b><span class="gs-small gs-number">'
        '{text}</span></div><div class="gs-bar gs-split" role="img" aria-label="{text}">{parts}</div>{legend}</div>',
        over="" if fits else " gs-over",
        title=say(lang, "ui.plan.memory_title"),
        text=text,
        parts=[
            tag('<i class="gs-need-{name}" style="width:{share}%"></i>', name=name, share=f"{amount / whole * 100:.2f}")
            for name, amount in shares
        ],
        legend=_legend(lang, needed),
    )


def _legend(lang: str, needed: Need) -> Html:
    items = [
        tag(
            '<span><i class="gs-swatch gs-need-{name}"></i>{label} {amount}</span>',
            name=name,
            label=say(lang, f"cli.need_{name}"),
            amount=size(getattr(needed, name)),
        )
        for name in _PARTS
        if getattr(needed, name)
    ]
    return fold(say(lang, "ui.plan.parts"), tag('<div class="gs-legend-row">{items}</div>', items=items), key="need")


def _figures(lang: str, plan: Plan) -> Html:
    figures = [
        ("steps", f"{plan.settings.steps:,}"),
        ("epochs", _count(plan.epochs)),
        ("time", duration(lang, plan.seconds) if plan.seconds is not None else _measure(lang, plan)),
        ("disk", size(plan.disk)),
        ("at_once", f"{plan.at_once:,}"),
    ]
    figures += [("twice", f"{plan.twice:,}")] if plan.twice else []
    cells = [
        tag("<div><dt>{name}</dt><dd>{value}</dd></div>", name=say(lang, f"ui.plan.{name}"), value=value)
        for name, value in figures
    ]
    return tag('{through}<dl class="gs-figures gs-plan">{cells}</dl>', through=_through(lang, plan), cells=cells)


def _through(lang: str, plan: Plan) -> Html:
    """Steps and passes as a sentence, where general conversations are mixed in."""
    if not plan.mixed:
        return Html("")
    values = {"steps": plan.settings.steps, "passes": _count(plan.epochs), "n": plan.learned_from, "m": plan.mixed}
    return tag("<p>{text}</p>", text=say(lang, "ui.plan.through", **values))


def _count(passes: float) -> str:
    """Passes as one counts them: whole steps hardly ever make whole passes."""
    return number(round(passes, 1) if passes >= 1 else passes)


def _held_back(found: FormState) -> int:
    return found.plan.held_back if found.plan else 0


def _passes(lang: str, plan: Plan) -> Html:
    """A warning where the same few conversations are learned over and over, and the click that makes it fewer."""
    if plan.fewer_steps is None:
        return Html("")
    many = StudioError("ui.plan.passes", steps=plan.settings.steps, epochs=plan.epochs, records=plan.learned_from)
    fewer = say(lang, "ui.plan.fewer", steps=plan.fewer_steps, passes=plan.passes_of(plan.fewer_steps))
    return tag(
        '{warning}<div class="gs-row">{fewer}</div>',
        warning=problem(lang, many, kind="attention"),
        fewer=button("fewer-steps", fewer, look="primary"),
    )


def _measure(lang: str, plan: Plan) -> Html:
    """Time is measured, not guessed: a few steps on the longest batch, where somebody asks for it."""
    if plan.probe.state == "running":
        return tag('<span class="gs-small">{text}</span>', text=say(lang, "ui.plan.measuring"))
    return button("measure", say(lang, "ui.plan.measure"), look="quiet")


def _trouble(lang: str, found: FormState) -> Html:
    """What stands in the way, with the one click that helps where there is one."""
    plan = found.plan
    buttons: list[Html] = []
    if plan is not None and plan.remedy:
        buttons.append(button("remedy", say(lang, "ui.plan.remedy"), look="primary"))
    if found.problem and found.problem.key in _NEEDS_DEEPSPEED:
        return _missing(lang, found.problem, DEEPSPEED)
    return tag(
        '{what}<div class="gs-row">{buttons}</div>' if buttons else "{what}",
        what=problem(lang, found.problem, kind="attention"),
        buttons=buttons,
    )


def _missing(lang: str, what: StudioError, extra: OptionalPackage) -> Html:
    """What needs an optional part; it is installed by a click, and what pip says last, or why it failed, is shown."""
    return tag("{what}{install}", what=problem(lang, what, kind="attention"), install=_install(lang, extra))


def _install(lang: str, extra: OptionalPackage) -> Html:
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
