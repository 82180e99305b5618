"""All settings in a fold: basic ones, then the others by what they are for; what differs from the preset is marked."""

from __future__ import annotations

from glmstudio.config.presets import Preset, shipped_like
from glmstudio.config.settings import FieldDoc, Settings, change, choice_words, differences, field_docs
from glmstudio.errors import StudioError
from glmstudio.ui.framework.markup import Html, button, fold, problem, tag
from glmstudio.ui.state.form_state import read_form
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.words import has, say

PLACED_ELSEWHERE = ("model", "data")
# What a form shows first, and the others by what they are for; a test holds that each setting has one place.
BASIC = (
    "method", "steps", "epochs", "learning_rate", "batch_size", "max_length", "lora_rank", "prefix_length",
    "validation_share", "validation_auto", "bad_records",
)  # fmt: skip
GROUPS = {
    "data": ("validation", "facts_with_tools", "facts_repeat", "rehearsal", "sample_prompt", "seed"),
    "method": (
        "warm_start", "lora_alpha", "lora_dropout", "lora_targets", "prefix_projection", "prefix_std", "prefix_dropout",
    ),
    "step": ("accumulation", "packing", "pack_tokens", "shared_prompts", "warmup_steps", "max_grad_norm"),
    "keeping": ("save_every", "keep_checkpoints", "best_by", "early_stop", "checkpoint_form", "report_to"),
    "machine": (
        "device", "processes", "engine", "dtype", "base_bits", "gradient_checkpointing", "checkpoint_layers", "compile",
        "loader_processes",
    ),
}  # fmt: skip


def render_settings(lang: str, form: FinetuneState) -> Html:
    """All settings as a form, what differs from the preset, and saving it as a preset of one's own."""
    found = read_form(form)
    if found.preset is None:
        return Html("")
    settings, fields = _shown(found.preset, form), _Fields(lang, found.preset.settings, form)
    docs = {doc.name: doc for doc in field_docs(settings, lang)}
    body = tag(
        '{find}<div data-scope data-live="settings" data-typed class="gs-stack">{basic}{advanced}<div class="gs-row">'
        "{reset}</div></div>{changed}{keep}",
        find=_find(lang),
        basic=fields.group([docs[name] for name in BASIC]),
        advanced=_advanced(lang, fields, docs),
        reset=button("reset", say(lang, "ui.preset.reset")) if form.changes else "",
        changed=_changed(lang, found.preset, settings, form),
        keep=_keep(lang, found.preset),
    )
    count = len(differences(found.preset.settings, settings, lang))
    title = say(lang, "ui.preset.settings_changed", n=count) if count else say(lang, "ui.preset.settings")
    return fold(title, body, key="settings", unfolded=bool(form.changes))


def _find(lang: str) -> Html:
    """The browser hides what does not match."""
    return tag(
        '<label class="gs-find-setting gs-small">{label} <input type="search" data-find-setting></label>',
        label=say(lang, "ui.preset.find"),
    )


def _advanced(lang: str, fields: _Fields, docs: dict[str, FieldDoc]) -> Html:
    groups = [
        tag(
            '<fieldset class="gs-group"><legend>{title}</legend>{fields}</fieldset>',
            title=say(lang, f"ui.preset.group_{name}"),
            fields=fields.group([docs[each] for each in names]),
        )
        for name, names in GROUPS.items()
    ]
    marked = any(fields.is_marked(docs[each]) for names in GROUPS.values() for each in names)
    return fold(say(lang, "ui.preset.advanced"), groups, key="advanced", unfolded=marked)


def _shown(preset: Preset, form: FinetuneState) -> Settings:
    """The settings of the form; those of the preset if they are invalid."""
    try:
        return change(preset.settings, dict(form.changes), source="")
    except StudioError:
        return preset.settings


class _Fields:
    """Draws settings as labelled fields with their help; marks what differs from the preset, and what is wrong."""

    def __init__(self, lang: str, preset: Settings, form: FinetuneState) -> None:
        self._lang, self._preset = lang, preset
        wrong = form.settings_problem.values.get("errors", ()) if form.settings_problem else ()
        self._wrong = {each.values.get("name") for each in wrong}

    def group(self, docs: list[FieldDoc]) -> Html:
        """Some settings beside each other."""
        return tag('<div class="gs-fields gs-settings">{fields}</div>', fields=[self._setting(doc) for doc in docs])

    def is_marked(self, doc: FieldDoc) -> bool:
        """Whether it is not as in the preset, or cannot be taken."""
        return bool(doc.value != getattr(self._preset, doc.name)) or doc.name in self._wrong

    def _setting(self, doc: FieldDoc) -> Html:
        return tag(
            '<div class="gs-setting{marked}" data-key="setting-{name}" data-words="{words}"><label title="{help}">'
            '<span>{label}</span>{field}<span class="gs-help">{help}</span></label>{was}</div>',
            marked=" gs-marked" if self.is_marked(doc) else "",
            name=doc.name,
            words=f"{doc.label} {doc.name} {doc.help}".lower(),
            help=doc.help,
            label=doc.label,
            field=self._field(doc),
            was=self._was(doc) if self.is_marked(doc) else "",
        )

    def _was(self, doc: FieldDoc) -> Html:
        """The preset's value, one click away."""
        value = choice_words(self._lang, getattr(self._preset, doc.name)) or say(self._lang, "ui.preset.nothing")
        return tag(
            '<div class="gs-row gs-was"><span class="gs-small">{was}</span>{reset}</div>',
            was=say(self._lang, "ui.preset.was", value=value),
            reset=button("reset-one", say(self._lang, "ui.preset.reset_one"), look="quiet", setting=doc.name),
        )

    def _field(self, doc: FieldDoc) -> Html:
        invalid = Html(' aria-invalid="true"') if doc.name in self._wrong else ""
        if doc.choices or doc.kind == "bool":
            return tag(
                '<select data-field="{name}"{invalid}>{options}</select>',
                name=doc.name,
                invalid=invalid,
                options=self._options(doc),
            )
        return tag(
            '<input data-field="{name}" value="{value}"{mode}{invalid}>',
            name=doc.name,
            value=f"{doc.value:.12g}" if doc.kind == "float" else doc.value,
            mode=Html(' inputmode="decimal"') if doc.kind in ("int", "float") else "",
            invalid=invalid,
        )

    def _options(self, doc: FieldDoc) -> list[Html]:
        value = str(doc.value).lower() if doc.kind == "bool" else doc.value
        return [
            tag(
                '<option value="{choice}"{chosen}>{words}</option>',
                choice=choice,
                words=choice_words(self._lang, choice),
                chosen=Html(" selected") if choice == value else "",
            )
            for choice in doc.choices or ("true", "false")
        ]


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
