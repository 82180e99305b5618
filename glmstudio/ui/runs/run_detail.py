"""The parts of an open run: figures, curves, samples, checkpoints, and actions on the result."""

from __future__ import annotations

from glmstudio.config.devices import cards_of
from glmstudio.files import read_json
from glmstudio.rundir.checkpoints import Checkpoint, best, list_checkpoints
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.state import RunState
from glmstudio.runs.export import forms_of
from glmstudio.runs.manage import read_note
from glmstudio.ui.chat import score_view
from glmstudio.ui.framework.charts import Series, curve
from glmstudio.ui.framework.markup import Html, button, chip, copyable, fold, problem, tag
from glmstudio.ui.runs.versus import render_versus
from glmstudio.ui.state.background import TASKS
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.runwatch import Reading, RunSnapshot
from glmstudio.units import duration, memory_bytes, moment, number, size
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
        ("gpu", _gpu_use(known)),
        ("took", duration(lang, seconds) if isinstance(seconds, (int, float)) else None),
    ]
    cells = [
        tag("<div><dt>{name}</dt><dd>{value}</dd></div>", name=say(lang, f"ui.run.figure_{name}"), value=value)
        for name, value in figures
        if value
    ]
    return tag('<dl class="gs-figures">{cells}</dl>', cells=cells) if cells else Html("")


def _gpu_use(known: RunSnapshot) -> str | None:
    """Utilization of the run's GPUs now."""
    if not known.state.holds_device:
        return None
    mine = {card.index for card in cards_of(known.run.device)}
    used = [gpu.utilization for gpu in CHECKUP.gpus() if gpu.index in mine and gpu.utilization is not None]
    return " · ".join(f"{percent} %" for percent in used) or None


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


def render_curves(lang: str, state: RunState, reading: Reading) -> Html:
    """Loss and validation loss; the learning rate one fold away."""
    lines = [Series(say(lang, "ui.run.loss"), reading.points)]
    if reading.validation:
        lines.append(Series(say(lang, "ui.run.figure_validation"), reading.validation, "dots"))
    x_label = say(lang, "ui.run.step")
    rate = curve(
        [Series(say(lang, "ui.run.figure_rate"), reading.rates, "plain")],
        label=say(lang, "ui.run.figure_rate"),
        x_label=x_label,
        last_x=state.steps,
    )
    asked = [("learned", reading.learned), ("kept", reading.kept)]
    shares = [Series(say(lang, f"knowledge.line.{name}"), points, "dots") for name, points in asked if points]
    return tag(
        "{loss}{facts}{rate}",
        facts=curve(
            shares,
            label=say(lang, "ui.facts.curve"),
            x_label=say(lang, "ui.facts.curve_axis"),
            last_x=state.steps,
        ),
        loss=curve(lines, label=say(lang, "ui.run.loss"), x_label=x_label, last_x=state.steps),
        rate=fold(say(lang, "ui.run.figure_rate"), rate, key="rate") if rate else "",
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


def render_checkpoints(lang: str, known: RunSnapshot) -> Html:
    """Every checkpoint with its size, losses and actions."""
    found = list_checkpoints(known.run.path / RunFiles.CHECKPOINTS)
    if not found:
        return Html("")
    good = best(found, str(known.run.settings.get("best_by") or "loss"))
    rows = [_checkpoint(lang, known, each, good is not None and each.step == good.step) for each in found[::-1]]
    heads = [tag("<th>{text}</th>", text=say(lang, f"ui.run.column_{name}")) for name in _COLUMNS]
    table = tag(
        '<div class="gs-wide-table"><table class="gs-table"><thead><tr>{heads}<th></th></tr></thead><tbody>{rows}'
        "</tbody></table></div>",
        heads=heads,
        rows=rows,
    )
    return fold(say(lang, "ui.run.checkpoints", n=len(found)), table, key="checkpoints")


_COLUMNS = ("step", "loss", "validation", "size", "time")


def _checkpoint(lang: str, known: RunSnapshot, each: Checkpoint, is_best: bool) -> Html:
    buttons: list[Html] = []
    if each.whole and not known.state.live:
        buttons.append(button("resume", say(lang, "ui.run.resume_here"), look="quiet", run=known.name, step=each.step))
    if each.whole and not known.run.is_whole_model:
        buttons.append(_chat(lang, known, each.step, look="quiet"))
    marks = chip("good", say(lang, "ui.run.best")) if is_best else ""
    if not each.whole:
        marks = chip("bad", say(lang, "ui.run.cut_short"))
    return tag(
        '<tr data-key="checkpoint-{step}"><td>{step} {marks}</td><td>{loss}</td><td>{validation}</td><td>{size}</td>'
        '<td>{time}</td><td><div class="gs-row">{buttons}</div></td></tr>',
        step=each.step,
        marks=marks,
        loss="–" if each.loss is None else number(each.loss),
        validation="–" if each.validation_loss is None else number(each.validation_loss),
        size=size(each.size),
        time=moment(each.time) or "–",
        buttons=buttons,
    )


def chat_button(lang: str, known: RunSnapshot) -> Html:
    """Chat with the result: `data-go` opens the Chat step, and the same click tells the server what to load."""
    return _chat(lang, known, None, look="primary")


def _chat(lang: str, known: RunSnapshot, step: int | None, *, look: str) -> Html:
    return tag(
        '<button type="button" class="gs-button gs-look-{look}" data-act="chat" data-go="chat" data-run="{name}"'
        ' data-step="{step}">{label}</button>',
        look=look,
        name=known.name,
        step="" if step is None else step,
        label=say(lang, "ui.run.chat" if step is None else "ui.run.chat_short"),
    )


def render_after(lang: str, known: RunSnapshot) -> Html:
    """Score, compare with the base, export; each in the background."""
    if not known.has_result:
        return Html("")
    return tag(
        "{score}{versus}{export}",
        score=score_view.render(lang, known.name, about=known.name, run=known.run),
        versus=render_versus(lang, known),
        export=_export(lang, known),
    )


def _export(lang: str, known: RunSnapshot) -> Html:
    task = TASKS.get(known.name, "export")
    busy = task is not None and task.running
    buttons = [
        button("export", say(lang, f"ui.run.export_{form}"), run=known.name, form=form) for form in forms_of(known.run)
    ]
    parts: list[Html] = [
        tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.run.export_text")),
        tag('<div class="gs-row">{buttons}</div>', buttons=buttons),
    ]
    if busy:
        parts.append(tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.run.exporting")))
    if task is not None and task.problem:
        parts.append(problem(lang, task.problem))
    if task is not None and isinstance(task.result, str):
        parts += [
            tag("<p>{text}</p>", text=say(lang, "ui.run.exported")),
            copyable(lang, task.result, key="exported"),
        ]
    return fold(say(lang, "ui.run.export"), parts, key="export", unfolded=task is not None)


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
