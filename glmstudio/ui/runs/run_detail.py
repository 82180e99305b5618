"""The parts of an open run: figures, curves, samples, and what its owner does with it."""

from __future__ import annotations

from glmstudio.files import read_json
from glmstudio.rundir.record import RunFiles
from glmstudio.runs.manage import read_note
from glmstudio.ui.framework.charts import Series, chart
from glmstudio.ui.framework.markup import Html, button, fold, tag
from glmstudio.ui.runs.checkpoints_view import render_overfitting
from glmstudio.ui.runs.downloads.run_link import run_downloads
from glmstudio.ui.state.background import TASKS
from glmstudio.ui.state.runwatch import Reading, RunSnapshot
from glmstudio.units import duration, memory_bytes, number, size
from glmstudio.words import say


def render_figures(lang: str, known: RunSnapshot, reading: Reading) -> Html:
    """The most important numbers."""
    state, last = known.state, reading.last
    seconds = None if state.live else last.get("seconds")
    loss = state.loss if state.loss is not None else last.get("loss")
    figures = [
        ("step", f"{state.step:,} / {state.steps:,}" if state.steps else None),
        ("loss", number(loss) if isinstance(loss, (int, float)) else None),
        ("validation", number(state.validation_loss) if state.validation_loss is not None else None),
        ("rate", number(last["learning_rate"]) if isinstance(last.get("learning_rate"), (int, float)) else None),
        ("speed", number(state.tokens_per_second) if state.tokens_per_second else None),
        ("memory", memory_bytes(last["memory"]) if isinstance(last.get("memory"), (int, float)) else None),
        ("took", duration(lang, seconds) if isinstance(seconds, (int, float)) else None),
    ]
    cells = [
        tag("<div><dt>{name}</dt><dd>{value}</dd></div>", name=say(lang, f"ui.run.figure_{name}"), value=value)
        for name, value in figures
        if value
    ]
    return tag('<dl class="gs-figures">{cells}</dl>', cells=cells) if cells else Html("")


def render_records(lang: str, known: RunSnapshot) -> Html:
    """How many records are trained on, and how many were fixed or left out."""
    counts = read_json(known.run.path / RunFiles.RECORDS, {})
    if not isinstance(counts, dict) or not isinstance(counts.get("used"), int):
        return Html("")
    named = [(name, counts.get(name)) for name in ("mixed", "mended", "cut", "dropped", "validation")]
    learned_from = counts.get("trained")  # runs of before did not count it apart
    said = [say(lang, "ui.run.used", count=learned_from if isinstance(learned_from, int) else counts["used"])]
    said += [say(lang, f"ui.run.{name}", count=count) for name, count in named if isinstance(count, int) and count]
    return tag('<p class="gs-small">{text}</p>', text=" · ".join(said))


def render_curves(lang: str, known: RunSnapshot, reading: Reading) -> Html:
    """Loss and validation loss; the learning rate one fold away; and the files that hold all figures."""
    lines = [Series(say(lang, "ui.run.loss"), reading.points)]
    if reading.validation:
        lines.append(Series(say(lang, "ui.run.figure_validation"), reading.validation, "dots"))
    x_label, last_x = say(lang, "ui.run.step"), known.state.steps
    rates = [Series(say(lang, "ui.run.figure_rate"), reading.rates, "plain")]
    rate = chart(lang, rates, label=say(lang, "ui.run.figure_rate"), x_label=x_label, last_x=last_x)
    asked = [("learned", reading.learned), ("kept", reading.kept)]
    shares = [Series(say(lang, f"knowledge.line.{name}"), points, "dots") for name, points in asked if points]
    axis = say(lang, "ui.facts.curve_axis")
    return tag(
        "{loss}{overfits}{facts}{rate}{files}",
        loss=chart(lang, lines, label=say(lang, "ui.run.loss"), x_label=x_label, last_x=last_x),
        overfits=render_overfitting(lang, known, reading),
        facts=chart(lang, shares, label=say(lang, "ui.facts.curve"), x_label=axis, last_x=last_x),
        rate=fold(say(lang, "ui.run.figure_rate"), rate, key="rate") if rate else "",
        files=run_downloads(lang, known.name) if reading.points or reading.validation else "",
    )


def render_samples(lang: str, reading: Reading) -> Html:
    """Sample answers at the checkpoints, newest first."""
    if not reading.samples:
        return Html("")
    newest = list(reading.samples)[::-1]
    said = [
        tag(
            '<div class="gs-sample"><span class="gs-small">{step}</span><p>{answer}</p></div>',
            step=say(lang, "ui.run.at_step", step=each["step"]),
            answer=str(each.get("answer", "")),
        )
        for each in newest
    ]
    body = tag(
        '<p class="gs-sample-question">{question}</p>{said}', question=str(newest[0].get("question", "")), said=said
    )
    return fold(say(lang, "ui.run.samples"), body, key="samples", unfolded=True)


def render_keeping(lang: str, known: RunSnapshot) -> Html:
    """Name, note, delete."""
    task = TASKS.get(known.name, "size")
    taken = size(task.result) if task is not None and isinstance(task.result, int) else "…"
    resting = not known.state.holds_device
    name = tag(
        '<div data-scope class="gs-row"><input data-field="new_name" value="{name}" aria-label="{label}">{button}'
        "</div>",
        name=known.name,
        label=say(lang, "ui.run.name"),
        button=button("rename", say(lang, "ui.run.rename"), run=known.name),
    )
    note = tag(
        '<div data-scope class="gs-stack"><textarea data-field="note" rows="3" aria-label="{label}"'
        ' placeholder="{label}">{note}</textarea><div class="gs-row">{button}</div></div>',
        note=read_note(known.run),
        label=say(lang, "ui.run.note"),
        button=button("note", say(lang, "ui.run.keep_note"), run=known.name),
    )
    delete = button(
        "delete",
        say(lang, "ui.run.delete"),
        look="danger",
        run=known.name,
        confirm=say(lang, "ui.run.delete_confirm", name=known.name, size=taken),
        yes=say(lang, "ui.run.delete"),
        no=say(lang, "ui.run.keep"),
    )
    body = tag(
        '<div class="gs-stack gs-keeping">{note}{name}{delete}</div>',
        note=note,
        name=name if resting else "",
        delete=delete if resting else "",
    )
    return fold(say(lang, "ui.run.keeping"), body, key="keeping")
