"""Presets as cards, each with the memory that it needs and the time that it takes here."""

from __future__ import annotations

from glmstudio.config.presets import read_presets
from glmstudio.errors import StudioError
from glmstudio.ui.framework.markup import Html, bar, button, chip, fold, problem, prose, tag
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state.form_state import read_form, source_of
from glmstudio.ui.state.lora_instead import learns_prefix
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.ui.state.presets_here import PresetHere, presets_here
from glmstudio.units import duration, memory_bytes
from glmstudio.words import say

_CARDS_MISSING = ("runs.cards_and_processes", "runs.no_card")
_MOST_WRONG = 3  # presets that cannot be read


def render_presets(lang: str, form: FinetuneState) -> Html:
    """A card for each preset, the chosen one pressed: those that fit, the best of each kind; others are folded."""
    found = read_form(form)
    first, mine, others = presets_here(found, facts=source_of(form) == "facts")
    chosen = found.preset.name if found.preset else None
    return tag(
        '<fieldset class="gs-choice"><legend>{label}</legend>{first}{prefix}{more}{others}{wrong}</fieldset>',
        label=say(lang, "ui.preset.label"),
        first=_cards(lang, first, chosen),
        more=_folded(lang, mine, "more", chosen),
        others=_folded(lang, others, "others", chosen),
        prefix=_no_engine(lang) if learns_prefix(form, found.preset) else "",
        wrong=[problem(lang, error, kind="attention") for error in _wrong()[:_MOST_WRONG]],
    )


def _no_engine(lang: str) -> Html:
    """A prefix stays in the studio; LoRA on the same data is one click away."""
    return tag(
        '<div class="gs-row gs-spread" data-key="prefix"><p class="gs-small">{text}</p>{go}</div>',
        text=say(lang, "ui.preset.prefix"),
        go=button("lora-instead", say(lang, "ui.preset.lora_instead"), look="quiet"),
    )


@cached(3.0)
def _wrong() -> list[StudioError]:
    return read_presets()[1]


def _cards(lang: str, presets: list[PresetHere], chosen: str | None) -> Html:
    cards = [_card(lang, each, each.preset.name == chosen) for each in presets]
    return tag('<div class="gs-presets">{cards}</div>', cards=cards)


def _folded(lang: str, presets: list[PresetHere], name: str, chosen: str | None) -> Html:
    if not presets:
        return Html("")
    return fold(say(lang, f"ui.preset.{name}", n=len(presets)), _cards(lang, presets, chosen), key=f"{name}-presets")


def _card(lang: str, each: PresetHere, chosen: bool) -> Html:
    preset = each.preset
    return tag(
        '<button type="button" class="gs-preset" data-key="preset-{name}" data-act="preset" data-preset="{name}"'
        ' aria-pressed="{chosen}"><b>{title}</b><span class="gs-small">{about}</span>{need}</button>',
        name=preset.name,
        chosen="true" if chosen else "false",
        title=preset.title(lang),
        about=preset.about(lang),
        need=_need(lang, each),
    )


def _need(lang: str, each: PresetHere) -> Html:
    found, wrong = each.fit, each.problem
    if wrong is None and found.need is not None and found.place is not None:
        values = {"need": memory_bytes(found.need.total), "total": memory_bytes(found.place.total)}
        text = say(lang, "ui.preset.needs", **values)
        time = each.time if each.time and each.time.measured else None
        takes = say(lang, "ui.plan.takes", time=duration(lang, time.seconds)) if time else ""
        return tag(
            '<span class="gs-small gs-number">{text}</span>{takes}{bar}',
            text=text,
            takes=tag('<span class="gs-small gs-number">{takes}</span>', takes=takes) if takes else "",
            bar=bar(found.need.total / found.place.total, label=text),
        )
    if wrong is None or (found.need is None and wrong.key not in _CARDS_MISSING):
        return Html("")  # a model that is not there yet: the Model step tells
    return tag(
        '{chip}<span class="gs-small">{why}</span>',
        chip=chip("attention", say(lang, "ui.preset.cannot")),
        why=prose(f"{wrong.what(lang)} {wrong.fix(lang, page=True)}"),
    )
