"""Compare with the base: one's own questions to both models, in the form of the training data, kept with the run."""

from __future__ import annotations

from typing import Any

from glmstudio.chat.kept_prompts import LONGEST, KeptPrompt, drop_prompt, kept_prompts
from glmstudio.files import read_table
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run
from glmstudio.ui.chat.chat_model import server_state
from glmstudio.ui.framework.markup import Html, button, chip, fold, problem, tag
from glmstudio.ui.state.comparisons import COMPARISONS
from glmstudio.ui.state.runwatch import RunSnapshot
from glmstudio.units import duration
from glmstudio.words import say


def act_versus(run: Run, data: dict[str, Any]) -> None:
    """Ask one question, or all that are kept, or keep one no longer. Raises OSError."""
    act, question = data.get("act"), str(data.get("question", ""))
    if act == "versus":
        fields = data.get("fields")
        typed = str(fields.get("question", "")).strip() if isinstance(fields, dict) else ""
        if question := typed[:LONGEST] or _of_samples(run):
            COMPARISONS.ask(run, question)
    elif act == "versus-all":
        for each in kept_prompts(run):
            COMPARISONS.ask(run, each.question)
    elif act == "versus-again" and any(each.question == question for each in kept_prompts(run)):
        COMPARISONS.ask(run, question)
    elif act == "versus-drop":
        COMPARISONS.drop(run.name, question)
        drop_prompt(run, question)


def render_versus(lang: str, known: RunSnapshot) -> Html:
    """The form, and every kept question with the last answers."""
    kept = kept_prompts(known.run)
    again = say(lang, "ui.run.versus_all", n=len(kept))
    parts: list[Html] = [
        tag('<p class="gs-small">{form} {load}</p>', form=_form(lang, known), load=_loading(lang, known)),
        tag(
            '<div data-scope class="gs-fields"><label class="gs-wide">{label}<input data-field="question"'
            ' maxlength="{longest}" placeholder="{example}"></label><div class="gs-row">{ask}{all}</div></div>',
            label=say(lang, "ui.run.question"),
            longest=LONGEST,
            example=say(lang, "ui.run.question_example"),
            ask=button("versus", say(lang, "ui.run.ask_both"), run=known.name),
            all=button("versus-all", again, look="quiet", run=known.name) if len(kept) > 1 else "",
        ),
        *(_asked(lang, known, number, each) for number, each in enumerate(kept)),
    ]
    waits = bool(COMPARISONS.waiting(known.name))
    return fold(say(lang, "ui.run.versus"), parts, key="versus", unfolded=waits)


def _asked(lang: str, known: RunSnapshot, number: int, kept: KeptPrompt) -> Html:
    """A question, how far it is, and the two answers."""
    waiting = kept.question in COMPARISONS.waiting(known.name)
    going = COMPARISONS.asking() == (known.name, kept.question)
    error = COMPARISONS.problem(known.name, kept.question)
    state = chip("running", say(lang, "ui.run.answering")) if going else ""
    if waiting and not going:
        state = chip("waiting", say(lang, "ui.run.versus_waiting"))
    return tag(
        '<div class="gs-stack gs-prompt" data-key="versus-{number}"><p class="gs-sample-question">{question}</p>{state}'
        '{problem}{answers}<div class="gs-row">{again}{drop}</div></div>',
        number=number,
        question=kept.question,
        state=state,
        problem=problem(lang, error) if error else "",
        answers=_answers(lang, known, kept) if kept.asked else "",
        again="" if waiting else _button(lang, "again", known.name, kept.question),
        drop="" if going else _button(lang, "drop", known.name, kept.question),
    )


def _button(lang: str, act: str, run: str, question: str) -> Html:
    return button(f"versus-{act}", say(lang, f"ui.run.versus_{act}"), look="quiet", run=run, question=question)


def _answers(lang: str, known: RunSnapshot, kept: KeptPrompt) -> Html:
    columns = [
        tag(
            "<div><h4>{head}</h4><p>{answer}</p></div>",
            head=say(lang, f"ui.run.versus_{side}", name=known.name, model=known.model),
            answer=answer or "–",
        )
        for side, answer in (("base", kept.base), ("tuned", kept.tuned))
    ]
    took = say(lang, "ui.run.versus_in_turn", time=duration(lang, kept.seconds)) if kept.in_turn else ""
    return tag(
        '<div class="gs-versus">{columns}</div>{took}',
        columns=columns,
        took=tag('<p class="gs-small">{took}</p>', took=took) if took else "",
    )


def _form(lang: str, known: RunSnapshot) -> str:
    """The prompt format of both: as in the first conversation of the data, if that was recorded."""
    opening = read_table(known.run.path / RunFiles.OPENING)
    form = {True: "tools", False: "plain"}.get(opening.get("tools", ""), "bare")
    return say(lang, f"ui.run.versus_{form}")


def _loading(lang: str, known: RunSnapshot) -> str:
    """What a question loads, or what answers it; what is unloaded for it is said before."""
    if known.whole:
        return say(lang, "ui.run.versus_whole")
    state = server_state()
    if state.state in ("ready", "loading") and state.model != known.model:
        return say(lang, "ui.run.versus_other", loaded=state.model, model=known.model)
    if state.state not in ("ready", "loading"):
        return say(lang, "ui.run.versus_load", model=known.model)
    return say(lang, "ui.run.versus_loaded" if state.bits == 16 else "ui.run.versus_bits", bits=state.bits)


def _of_samples(run: Run) -> str:
    samples = run.samples()[0]
    return str(samples[-1].get("question", ""))[:LONGEST].strip() if samples else ""
