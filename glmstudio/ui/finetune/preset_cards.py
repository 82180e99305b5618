"""Presets as cards with the memory they need; and all settings in a fold."""

from __future__ import annotations

from glmstudio.config.presets import Preset, read_presets, shipped_like
from glmstudio.config.settings import FieldDoc, Settings, change, choice_words, differences, field_docs
from glmstudio.errors import StudioError
from glmstudio.planning.memory_fit import PresetFit, fit
from glmstudio.ui.framework.markup import Html, bar, button, chip, fold, problem, prose, tag
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state.choice import model_in_use
from glmstudio.ui.state.form_state import presets_in_order, read_form, teaches_facts
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.units import memory_bytes
from glmstudio.words import has, say

# What a form shows first; the others follow in the order of the settings.
_PLACED_ELSEWHERE = ("model", "data")
_CARDS_MISSING = ("runs.cards_and_processes", "runs.no_card")
_MOST_WRONG = 3  # presets that cannot be read


def render_presets(lang: str, form: FinetuneState) -> Html:
    """A card for each preset, the chosen one pressed; those for other models are folded."""
    chosen, used = read_form(form).preset, model_in_use()
    mine: list[Html] = []
    others: list[Html] = []
    facts = form.source == "facts"
    for preset, found in sorted(_fits(), key=lambda each: facts and not teaches_facts(each[0])):
        picked = chosen is not None and preset.name == chosen.name
        near = picked or preset.model == (used.name if used else "demo")
        (mine if near else others).append(_card(lang, preset, found, picked))
    return tag(
        '<fieldset class="gs-choice"><legend>{label}</legend><div class="gs-presets">{mine}</div>{others}{wrong}'
        "</fieldset>",
        label=say(lang, "ui.preset.label"),
        mine=mine,
        others=fold(
            say(lang, "ui.preset.others", n=len(others)),
            tag('<div class="gs-presets">{cards}</div>', cards=others),
            key="other-presets",
        )
        if others
        else "",
        wrong=[problem(lang, error, kind="attention") for error in _wrong()[:_MOST_WRONG]],
    )


def render_settings(lang: str, form: FinetuneState) -> Html:
    """All settings as a form, what differs from the preset, and saving it as a preset of one's own."""
    found = read_form(form)
    if found.preset is None:
        return Html("")
    settings = _shown(found.preset, form)
    body = tag(
        '<div data-scope data-live="settings" data-typed class="gs-stack">'
        '<div class="gs-fields gs-settings">{fields}</div><div class="gs-row">{use}{reset}</div></div>{changed}{keep}',
        fields=[_field(lang, doc) for doc in field_docs(settings, lang) if doc.name not in _PLACED_ELSEWHERE],
        use=button("settings", say(lang, "ui.preset.use")),
        reset=button("reset", say(lang, "ui.preset.reset"), look="quiet") if form.changes else "",
        changed=_changed(lang, found.preset, settings, form),
        keep=_keep(lang, found.preset),
    )
    return fold(say(lang, "ui.preset.settings"), body, key="settings", unfolded=bool(form.changes))


@cached(3.0)
def _wrong() -> list[StudioError]:
    return read_presets()[1]


@cached(3.0)
def _fits() -> list[tuple[Preset, PresetFit]]:
    return [(preset, fit(preset.settings)) for preset in presets_in_order()]


def _card(lang: str, preset: Preset, found: PresetFit, chosen: bool) -> Html:
    return tag(
        '<button type="button" class="gs-preset" data-key="preset-{name}" data-act="preset" data-preset="{name}"'
        ' aria-pressed="{chosen}"><b>{title}</b><span class="gs-small">{about}</span>{need}</button>',
        name=preset.name,
        chosen="true" if chosen else "false",
        title=preset.title(lang),
        about=preset.about(lang),
        need=_need(lang, found),
    )


def _need(lang: str, found: PresetFit) -> Html:
    if found.problem is None and found.need is not None and found.place is not None:
        values = {"need": memory_bytes(found.need.total), "total": memory_bytes(found.place.total)}
        text = say(lang, "ui.preset.needs", **values)
        return tag(
            '<span class="gs-small gs-number">{text}</span>{bar}',
            text=text,
            bar=bar(found.need.total / found.place.total, label=text),
        )
    if found.problem is None or (found.need is None and found.problem.key not in _CARDS_MISSING):
        return Html("")  # a model that is not there yet: the Model step tells
    return tag(
        '{chip}<span class="gs-small">{why}</span>',
        chip=chip("attention", say(lang, "ui.preset.cannot")),
        why=prose(f"{found.problem.what(lang)} {found.problem.fix(lang, page=True)}"),
    )


def _shown(preset: Preset, form: FinetuneState) -> Settings:
    """The settings of the form; those of the preset if they are invalid."""
    try:
        return change(preset.settings, dict(form.changes), source="")
    except StudioError:
        return preset.settings


def _field(lang: str, doc: FieldDoc) -> Html:
    """One setting as a labelled field with its help."""
    if doc.choices or doc.kind == "bool":
        choices = doc.choices or ("true", "false")
        value = str(doc.value).lower() if doc.kind == "bool" else doc.value
        options = [
            tag(
                '<option value="{choice}"{chosen}>{words}</option>',
                choice=choice,
                words=choice_words(lang, choice),
                chosen=Html(" selected") if choice == value else "",
            )
            for choice in choices
        ]
        field = tag('<select data-field="{name}">{options}</select>', name=doc.name, options=options)
    else:
        field = tag(
            '<input data-field="{name}" value="{value}"{mode}>',
            name=doc.name,
            value=f"{doc.value:.12g}" if doc.kind == "float" else doc.value,
            mode=Html(' inputmode="decimal"') if doc.kind in ("int", "float") else "",
        )
    return tag(
        '<label title="{help}"><span>{label}</span>{field}<span class="gs-help">{help}</span></label>',
        help=doc.help,
        label=doc.label,
        field=field,
    )


def _changed(lang: str, preset: Preset, settings: Settings, form: FinetuneState) -> Html:
    """What differs from the preset (for one's own: from the shipped one), and errors in what was typed."""
    origin = shipped_like(preset) if preset.own else preset
    rows = [
        tag("<tr><td>{label}</td><td>{before}</td><td>{after}</td></tr>", label=label, before=before, after=after)
        for label, before, after in differences(origin.settings, settings, lang)
    ]
    wrong = labelled(lang, form.settings_problem) if form.settings_problem else None
    return tag(
        "{wrong}{table}",
        wrong=problem(lang, wrong) if wrong else "",
        table=tag(
            '<table class="gs-table"><thead><tr><th>{name}</th><th>{before}</th><th>{after}</th></tr></thead>'
            "<tbody>{rows}</tbody></table>",
            name=say(lang, "ui.preset.setting"),
            before=origin.title(lang),
            after=say(lang, "ui.preset.after"),
            rows=rows,
        )
        if rows
        else "",
    )


def labelled(lang: str, wrong: StudioError) -> StudioError:
    """The error with the labels of the form instead of setting names; another error unchanged."""
    if wrong.key != "presets.wrong":
        return wrong
    errors = [
        StudioError(each.key, **each.values | {"name": f"“{say(lang, label)}”"})
        if has(label := f"settings.{each.values['name']}.label")
        else each
        for each in wrong.values["errors"]
    ]
    return StudioError("ui.preset.wrong", errors=tuple(errors))


def _keep(lang: str, preset: Preset) -> Html:
    """Save the settings as a preset; one's own can also be deleted."""
    mine = preset.own
    return tag(
        '<div data-scope class="gs-row gs-keep"><label class="gs-small">{label} <input data-field="preset_name"'
        ' value="{name}"></label>{save}{delete}</div>',
        label=say(lang, "ui.preset.name"),
        name=preset.name if mine else f"{preset.name}-2",
        save=button("save-preset", say(lang, "ui.preset.save")),
        delete=button(
            "delete-preset",
            say(lang, "ui.preset.delete"),
            look="danger",
            preset=preset.name,
            confirm=say(lang, "ui.preset.delete_confirm", name=preset.title(lang)),
            yes=say(lang, "ui.preset.delete"),
            no=say(lang, "ui.run.keep"),
        )
        if mine
        else "",
    )
