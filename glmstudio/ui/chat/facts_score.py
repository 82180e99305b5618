"""A facts score: verdict, figures, and every answer that changed."""

from __future__ import annotations

from collections.abc import Sequence

from glmstudio.knowledge.result import BASE, TUNED, Count, FactsScore, Flip, verdict
from glmstudio.knowledge.score_report import as_markdown, cell
from glmstudio.ui.framework.markup import Html, fold, tag
from glmstudio.words import say

_SHOWN = 100  # changed answers
_COLUMNS = ("line", "question", "base", "tuned")


def render_facts_score(lang: str, name: str, result: FactsScore, files: Sequence[Html] = ()) -> Html:
    """The facts score of the model called `name`: verdict, figures, and changed answers."""
    lines = [_line(lang, line, count) for line, count in result.counts.items() if count is not None]
    return tag(
        '<p class="gs-verdict-said">{verdict}</p>'
        '<div class="gs-wide-table"><table class="gs-table gs-score"><thead><tr><td></td><th>{base}</th>'
        '<th>{tuned}</th></tr></thead><tbody>{lines}</tbody></table></div><p class="gs-small">{note}</p>'
        '<div class="gs-row">{copy}{files}</div>{flips}',
        verdict=verdict(lang, result),
        base=say(lang, "ui.chat.base"),
        tuned=say(lang, "ui.score.tuned"),
        lines=lines,
        note=_note(lang, result),
        copy=_copy(lang, name, result),
        files=list(files),
        flips=_flips(lang, result),
    )


def _line(lang: str, line: str, count: Count) -> Html:
    """One line of the score, with an explanation below its name."""
    cells = [
        tag('<td class="gs-number">{share}<br><span class="gs-small">{interval}</span></td>', share=said, interval=more)
        for said, more in (cell(lang, count, who) for who in (BASE, TUNED))
    ]
    return tag(
        '<tr><th scope="row">{name}<br><span class="gs-small">{about}</span></th>{cells}</tr>',
        name=say(lang, f"knowledge.line.{line}"),
        about=say(lang, f"ui.facts.about_{line}"),
        cells=cells,
    )


def _note(lang: str, result: FactsScore) -> str:
    """What the figures mean, and the score with the other prompt format."""
    said = [say(lang, "ui.facts.interval")]
    if len(result.forms) > 1:
        said.append(say(lang, "ui.facts.both_forms"))
    elif (other := result.by_form.get("tools", {}).get("learned")) and other.tuned is not None:
        said.append(say(lang, "ui.facts.with_tools", n=other.tuned, of=other.of))
    base, tuned = result.likelihood
    if base is not None and tuned is not None:
        said.append(say(lang, "ui.facts.likelihood", base=base, tuned=tuned))
    return (" " if lang == "en" else "").join(said)


def _copy(lang: str, name: str, result: FactsScore) -> Html:
    return tag(
        '<div class="gs-details"><pre hidden>{text}</pre><button type="button" class="gs-button" data-copy'
        ' data-done="{done}">{label}</button></div>',
        text=as_markdown(lang, result, name),
        done=say(lang, "ui.common.copied"),
        label=say(lang, "ui.facts.copy"),
    )


def _flips(lang: str, result: FactsScore) -> Html:
    """Every answer that changed: worse ones open, better ones folded."""
    better = [flip for flip in result.flips if flip.better]
    worse = [flip for flip in result.flips if not flip.better]
    return tag("{worse}{better}", worse=_changed(lang, "worse", worse), better=_changed(lang, "better", better))


def _changed(lang: str, which: str, flips: Sequence[Flip]) -> Html:
    if not flips:
        return Html("")
    heads = [tag("<th>{text}</th>", text=say(lang, f"knowledge.column.{name}")) for name in _COLUMNS]
    body = [_flip(lang, flip) for flip in flips[:_SHOWN]]
    table = tag(
        '<div class="gs-wide-table"><table class="gs-table gs-flips"><thead><tr>{heads}</tr></thead>'
        "<tbody>{body}</tbody></table></div>",
        heads=heads,
        body=body,
    )
    title = say(lang, f"ui.facts.{which}", count=len(flips))
    return fold(title, table, key=f"facts-{which}", unfolded=which == "worse")


def _flip(lang: str, flip: Flip) -> Html:
    form = say(lang, f"knowledge.form.{flip.form}")
    return tag(
        '<tr><td>{line}<br><span class="gs-small">{form}</span></td><td>{question}</td><td>{base}</td>'
        "<td>{tuned}</td></tr>",
        line=say(lang, f"knowledge.line.{flip.line}"),
        form=form,
        question=flip.question,
        base=flip.base or "–",
        tuned=flip.tuned or "–",
    )
