"""The checkpoints of a run: which is best, chat and resume from one, and from which step on the run overfits."""

from __future__ import annotations

from glmstudio.files import read_table
from glmstudio.rundir.checkpoints import Checkpoint, best, list_checkpoints
from glmstudio.rundir.overfitting import overfitting
from glmstudio.rundir.record import RunFiles
from glmstudio.runs.run_report import overfitting_words
from glmstudio.ui.framework.markup import Html, button, chip, fold, icon, tag
from glmstudio.ui.framework.stacking_table import table
from glmstudio.ui.state.runwatch import Reading, RunSnapshot
from glmstudio.units import moment, number, size
from glmstudio.words import say

_COLUMNS = ("step", "loss", "validation", "size", "time")


def render_checkpoints(lang: str, known: RunSnapshot) -> Html:
    """Every checkpoint with its size, losses and actions."""
    found = list_checkpoints(known.run.path / RunFiles.CHECKPOINTS)
    if not found:
        return Html("")
    good = _best(known, found)
    rows = [_checkpoint(lang, known, each, good is not None and each.step == good.step) for each in found[::-1]]
    heads = [*(say(lang, f"ui.run.column_{name}") for name in _COLUMNS), ""]
    keys = [f"checkpoint-{each.step}" for each in found[::-1]]
    return fold(say(lang, "ui.run.checkpoints", n=len(found)), table(heads, rows, keys=keys), key="checkpoints")


def better_checkpoint(known: RunSnapshot) -> Checkpoint | None:
    """The best checkpoint, where the result is another one's; None where there is none."""
    good = _best(known, list_checkpoints(known.run.path / RunFiles.CHECKPOINTS))
    if good is None or known.state.live:
        return None
    taken = read_table(known.run.path / RunFiles.EXAM).get("result_step")  # early stopping has gone back to it
    return None if good.step == (taken if isinstance(taken, int) else known.state.step) else good


def render_overfitting(lang: str, known: RunSnapshot, reading: Reading) -> Html:
    """From which step on the run overfits, with the proof, and the checkpoint to use instead; else nothing."""
    words = overfitting_words(lang, reading.validation)
    if not words:
        return Html("")
    good, found = better_checkpoint(known), overfitting(reading.validation)
    if good is not None and found is not None:
        words += " " * (lang == "en") + say(
            lang, "ui.overfit.use", step=good.step, loss=number(good.validation_loss or 0)
        )
    buttons = (
        _chat(lang, known, good.step, look="plain", label=say(lang, "ui.overfit.chat", step=good.step))
        if good is not None and not known.run.is_whole_model
        else ""
    )
    return tag(
        '<div class="gs-problem gs-attention gs-overfit">{icon}<div><p>{words}</p>{buttons}</div></div>',
        icon=icon("attention"),
        words=words,
        buttons=buttons,
    )


def _best(known: RunSnapshot, found: list[Checkpoint]) -> Checkpoint | None:
    return best(found, str(known.run.settings.get("best_by") or "loss"))


def _checkpoint(lang: str, known: RunSnapshot, each: Checkpoint, is_best: bool) -> list[object]:
    buttons: list[Html] = []
    complete = known.state.state == "finished" and each.step >= known.state.step
    if each.whole and not known.state.live and not complete:
        buttons.append(button("resume", say(lang, "ui.run.resume_here"), look="quiet", run=known.name, step=each.step))
    if each.whole and not known.run.is_whole_model:
        buttons.append(_chat(lang, known, each.step, look="quiet"))
    marks = chip("good", say(lang, "ui.run.best")) if is_best else ""
    if not each.whole:
        marks = chip("bad", say(lang, "ui.run.cut_short"))
    return [
        tag("<span>{step} {marks}</span>", step=each.step, marks=marks),
        "–" if each.loss is None else number(each.loss),
        "–" if each.validation_loss is None else number(each.validation_loss),
        size(each.size),
        moment(each.time) or "–",
        tag('<div class="gs-row">{buttons}</div>', buttons=buttons),
    ]


def chat_button(lang: str, known: RunSnapshot) -> Html:
    """Chat with the result: `data-go` opens the Chat step, and the same click tells the server what to load."""
    return _chat(lang, known, None, look="primary")


def _chat(lang: str, known: RunSnapshot, step: int | None, *, look: str, label: str = "") -> Html:
    return tag(
        '<button type="button" class="gs-button gs-look-{look}" data-act="chat" data-go="chat" data-run="{name}"'
        ' data-step="{step}">{label}</button>',
        look=look,
        name=known.name,
        step="" if step is None else step,
        label=label or say(lang, "ui.run.chat" if step is None else "ui.run.chat_short"),
    )
