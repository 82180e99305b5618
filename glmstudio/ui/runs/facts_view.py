"""The facts score of a run: result, progress, or the button that starts it."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from glmstudio.errors import StudioError
from glmstudio.knowledge.asking import AskingProgress
from glmstudio.knowledge.result import FactsScore
from glmstudio.knowledge.scoring import Scoring, last_score, of_run
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import find_run
from glmstudio.ui.chat.facts_score import render_facts_score
from glmstudio.ui.framework.markup import Html, button, problem, progress, tag
from glmstudio.ui.state.runwatch import RunSnapshot
from glmstudio.units import duration
from glmstudio.words import say

_KINDS = ("json", "csv")


def render(lang: str, known: RunSnapshot) -> Html:
    """Result, progress, or the start button; nothing for a run without facts."""
    if not known.has_result or known.state.live or not (known.run.path / RunFiles.EXAM).exists():
        return Html("")
    try:
        scoring = _scoring(known.run.path.as_posix(), known.attempts, known.name)
        look, result = _state(scoring)
    except StudioError as error:  # its facts are gone, what was measured is not
        result = last_score(known.run)
        return _result(lang, known, result) if result else problem(lang, error, kind="note")
    if result is not None:
        return _result(lang, known, result)
    return _going(lang, known, look)


@lru_cache(maxsize=8)
def _scoring(_folder: str, _attempts: int, name: str) -> Scoring:
    """Cached, because its data may be a large file."""
    return of_run(find_run(name))


def _state(scoring: Scoring) -> tuple[AskingProgress, FactsScore | None]:
    look = scoring.asking.look()
    if look.running or not look.whole:
        return look, None
    return look, scoring.kept() or scoring.finish()


def _going(lang: str, known: RunSnapshot, look: AskingProgress) -> Html:
    run = {"run": known.name}
    title = tag("<h3>{text}</h3>", text=say(lang, "ui.facts.title"))
    if look.running:
        words = say(lang, "ui.facts.going", done=look.done, total=look.total)
        left = say(lang, "ui.run.left", time=duration(lang, look.seconds_left)) if look.seconds_left else ""
        return tag(
            '<div class="gs-facts-score gs-stack">{title}{progress}<div>{stop}</div></div>',
            title=title,
            progress=progress(words, look.done, look.total, beside=left),
            stop=button("facts-score-stop", say(lang, "ui.score.stop"), look="quiet", **run),
        )
    label = say(lang, "ui.facts.go_on" if look.done else "ui.facts.start")
    return tag(
        '<div class="gs-facts-score gs-stack">{title}{trouble}<p class="gs-small">{text}</p><div>{start}</div></div>',
        title=title,
        trouble=problem(lang, look.problem, kind="attention") if look.problem else "",
        text=say(lang, "ui.facts.text"),
        start=button("facts-score", label, look="primary", **run),
    )


def _result(lang: str, known: RunSnapshot, result: FactsScore) -> Html:
    files = [_file(lang, known.name, kind) for kind in _KINDS]
    title = tag("<h3>{text}</h3>", text=say(lang, "ui.facts.title"))
    return tag(
        '<div class="gs-facts-score gs-stack">{title}{shown}</div>',
        title=title,
        shown=render_facts_score(lang, known.name, result, files),
    )


def _file(lang: str, name: str, kind: str) -> Html:
    return tag(
        '<a class="gs-button gs-look-quiet" href="/scores/{name}.{kind}?lang={lang}" download>{label}</a>',
        name=quote(name),
        kind=kind,
        lang=lang,
        label=say(lang, f"ui.facts.save_{kind}"),
    )
