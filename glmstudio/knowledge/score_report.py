"""A score of facts to read and to keep: as text for a terminal, as Markdown, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from glmstudio.files import short
from glmstudio.knowledge.answer_table import harmless
from glmstudio.knowledge.result import BASE, COUNTED, TUNED, Count, FactsScore, verdict, wilson
from glmstudio.words import say

_SHOWN = 20  # changed answers in the terminal


def rows(lang: str, score: FactsScore) -> Iterator[tuple[str, str, str]]:
    """Name, base and tuned of each line that has questions, as people read them, with 95 % intervals."""
    for line in COUNTED:
        count = score.counts[line]
        if count is not None:
            base, tuned = (_joined(*cell(lang, count, who)) for who in (BASE, TUNED))
            yield say(lang, f"knowledge.line.{line}"), base, tuned


def cell(lang: str, count: Count, who: str) -> tuple[str, str]:
    """`19 of 20` and its 95 % interval, `76–99 %`; a dash where nobody was asked."""
    number = count.base if who == BASE else count.tuned
    if number is None:
        return "–", ""
    low, high = (round(100 * each) for each in wilson(number, count.of))
    return say(lang, "knowledge.share", n=number, of=count.of), say(lang, "knowledge.interval", low=low, high=high)


def _joined(share: str, interval: str) -> str:
    return f"{share} ({interval})" if interval else share


def as_text(lang: str, score: FactsScore) -> str:
    """For a terminal: the lines, the sentence, and what changed."""
    lines = [verdict(lang, score), ""]
    for name, base, tuned in [("", say(lang, "ui.chat.base"), say(lang, "ui.score.tuned")), *rows(lang, score)]:
        lines.append(f"{name}\t{base}\t{tuned}".expandtabs(28))
    for flip in score.flips[:_SHOWN]:
        kind = say(lang, f"ui.score.{'better' if flip.better else 'worse'}")
        name = say(lang, f"knowledge.line.{flip.line}")
        lines += [
            "",
            f"{kind} · {name} · {say(lang, f'knowledge.form.{flip.form}')}: {flip.question}",
            f"  {say(lang, 'ui.chat.base')}: {short(flip.base, 200)}",
            f"  {say(lang, 'ui.score.tuned')}: {short(flip.tuned, 200)}",
        ]
    return "\n".join(lines)


def as_markdown(lang: str, score: FactsScore, title: str) -> str:
    """As a report that can be pasted anywhere."""
    head = ["", say(lang, "ui.chat.base"), say(lang, "ui.score.tuned")]
    lines = [f"## {_plain(title)}", "", verdict(lang, score), "", _row(head), "|---|---|---|"]
    lines += [_row(row) for row in rows(lang, score)]
    if score.flips:
        names = ("line", "question", "base", "tuned")
        lines += ["", _row([say(lang, f"knowledge.column.{name}") for name in names]), "|---|---|---|---|"]
        lines += [
            _row([say(lang, f"knowledge.line.{flip.line}"), flip.question, flip.base, flip.tuned])
            for flip in score.flips
        ]
    return "\n".join(lines) + "\n"


def as_csv(score: FactsScore) -> str:
    """Every line of the score, then every changed answer, as a table for a spreadsheet."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["line", "form", "base", "tuned", "of"])
    for form, counts in {"": score.counts, **score.by_form}.items():
        for line, count in counts.items():
            if count is not None:
                table.writerow([line, form, count.base, "" if count.tuned is None else count.tuned, count.of])
    table.writerow([])
    table.writerow(["line", "form", "question", "due", "base", "tuned", "better"])
    for flip in score.flips:
        said = (flip.question, flip.due, flip.base, flip.tuned)
        table.writerow([flip.line, flip.form, *map(harmless, said), str(flip.better).lower()])
    return out.getvalue()


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(_plain(each) for each in cells)} |"


def _plain(text: str) -> str:
    """Text of a model in a cell of Markdown: one line, nothing that is taken for more than text."""
    line = " ".join(text.split())[:500]
    return "".join(f"\\{sign}" if sign in "\\|`*_[]<>#!" else sign for sign in line)
