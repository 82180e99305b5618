"""The review before a start: what is wrong with the data, what the run needs of this machine, and its command."""

from __future__ import annotations

from glmstudio.config.optional_packages import DOCUMENTS, OptionalPackage
from glmstudio.config.settings import Settings
from glmstudio.data.store import Store
from glmstudio.errors import StudioError
from glmstudio.planning.memory import Need
from glmstudio.planning.plan import Plan
from glmstudio.ui.finetune import data_view
from glmstudio.ui.finetune.start_bar import install, passes, told_by_data
from glmstudio.ui.framework.markup import Html, bar, button, fold, icon, problem, tag, terminal
from glmstudio.ui.state.form_state import FormState, read_form
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.ui.state.presets_here import time_here
from glmstudio.units import duration, memory_bytes, size
from glmstudio.words import say

POLICIES = ("stop", "drop", "fix")
_PARTS = ("weights", "adapter", "optimizer", "gradients", "activations", "logits", "fixed")


def render_data(lang: str, form: FinetuneState) -> Html:
    """The verdict on the data, what to do with bad records, how long they are, and one of them."""
    found = read_form(form)
    if found.look is None and found.problem and found.problem.key == "data.no_pdf_reader":
        return _missing(lang, found.problem, DOCUMENTS)
    if found.look is None:
        mine = found.problem is not None and told_by_data(found)
        return problem(lang, found.problem, kind="attention") if mine else Html("")
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
        '<div class="gs-stack">{verdict}{split}{policy}{remarks}{more}</div>',
        verdict=data_view.verdict(lang, found.data.records, shown, count, found.selection, found.plan),
        split=_split(lang) if found.plan and found.plan.auto_validation else "",
        policy=_policies(lang, settings) if count else "",
        remarks=data_view.remarks(lang, found.data.notes),
        more=_closer(lang, form, found.data, settings),
    )


def render_plan(lang: str, form: FinetuneState) -> Html:
    """Memory, time, disk and the command. What stands in the way is told in the bar beside Start."""
    found = read_form(form)
    parts: list[Html] = []
    if found.plan is not None:
        plan = found.plan
        parts += [_memory(lang, plan), _figures(lang, plan), _passes(lang, plan), _sharing(lang, plan)]
    if found.request is not None:
        parts.append(terminal(lang, found.request.command(), f"{found.request.command()} --plan", key="train"))
    return tag('<div class="gs-stack gs-review">{parts}</div>', parts=parts)


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


def _split(lang: str) -> Html:
    """Why some are held out, and the click that has them trained on."""
    return tag(
        '<div class="gs-row gs-small"><span>{why}</span>{all}</div>',
        why=say(lang, "ui.data.auto_validation"),
        all=button("train-on-all", say(lang, "ui.data.train_on_all"), look="quiet"),
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
        need=memory_bytes(needed.total),
        free=memory_bytes(place.free),
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
            amount=memory_bytes(getattr(needed, name)),
        )
        for name in _PARTS
        if getattr(needed, name)
    ]
    return fold(say(lang, "ui.plan.parts"), tag('<div class="gs-legend-row">{items}</div>', items=items), key="need")


def _figures(lang: str, plan: Plan) -> Html:
    figures = [
        ("steps", f"{plan.settings.steps:,}"),
        ("epochs", passes(plan.epochs)),
        ("time", _time(lang, plan)),
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
    values = {"steps": plan.settings.steps, "passes": passes(plan.epochs), "n": plan.learned_from, "m": plan.mixed}
    return tag("<p>{text}</p>", text=say(lang, "ui.plan.through", **values))


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


def _sharing(lang: str, plan: Plan) -> Html:
    """That conversations begin alike, what it gains to compute that once, and the click for it."""
    sharing = plan.sharing
    if sharing is None:
        return Html("")
    measured = sharing.measured_gain(plan.probe)
    parts = [say(lang, "ui.plan.alike", n=sharing.alike, of=sharing.looked_at)]
    if measured is None:
        parts.append(say(lang, "ui.plan.sharing", gain=sharing.gain))
    else:
        parts.append(say(lang, "ui.plan.sharing_measured", gain=measured))
    buttons = [button("share-prompts", say(lang, "ui.plan.share", n=sharing.most))]
    if sharing.probe and sharing.probe.state == "running":
        buttons.append(tag('<span class="gs-small">{text}</span>', text=say(lang, "ui.plan.measuring")))
    elif plan.probe.state == "done" and measured is None:
        buttons.append(button("measure-sharing", say(lang, "ui.plan.measure_sharing"), look="quiet"))
    return tag(
        '<div class="gs-problem gs-note">{icon}<div>{text}<div class="gs-row">{buttons}</div></div></div>',
        icon=icon("note"),
        text=("" if lang == "zh" else " ").join(parts),
        buttons=buttons,
    )


def _time(lang: str, plan: Plan) -> Html:
    """What this machine measured; this very plan can be measured with a click."""
    known = time_here(plan)
    said = duration(lang, known.seconds) if known and known.measured else ""
    return tag("{said} {measure}", said=said, measure="" if plan.seconds is not None else _measure(lang, plan))


def _measure(lang: str, plan: Plan) -> Html:
    """Time is measured, not guessed: a few steps on the longest batch, where somebody asks for it."""
    if plan.probe.state == "running":
        return tag('<span class="gs-small">{text}</span>', text=say(lang, "ui.plan.measuring"))
    return button("measure", say(lang, "ui.plan.measure"), look="quiet")


def _missing(lang: str, what: StudioError, extra: OptionalPackage) -> Html:
    """What needs an optional part, and the click that installs it."""
    return tag("{what}{install}", what=problem(lang, what, kind="attention"), install=install(lang, extra))
