"""A dataset: verdict, lengths of its records, and one record as the model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glmstudio.ui.framework.markup import Html, button, fold, icon, join, tag
from glmstudio.words import say

if TYPE_CHECKING:
    from glmstudio.data.notes import Note
    from glmstudio.data.protocol.pieces import Piece
    from glmstudio.data.records import Problem
    from glmstudio.data.selection import Selection
    from glmstudio.planning.plan import Plan

Bar = tuple[int, int, int]  # more than so many tokens, at most so many, records

SHOWN_PROBLEMS = 5
SHOWN_NOTES = 6
_WIDTH, _HEIGHT = 640, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 26, 30
_MARKS = {"trained": "u", "plain": "span", "cut": "s"}
_NAMES = {"trained": "trained", "plain": "plain", "cut": "cut_off"}


def verdict(
    lang: str,
    records: int,
    problems: Sequence[Problem],
    count: int,
    selection: Selection | None = None,
    plan: Plan | None = None,
) -> Html:
    """What the doctor says of `records` records with `count` problems; `problems` are the first of these.

    With a selection also what is trained on and what became of the rest, as far as there is a plan after the split for
    validation.
    """
    chosen = _chosen(lang, selection, plan) if selection is not None else Html("")
    if not count:
        fine = tag("<strong>{text}</strong>", text=say(lang, "ui.data.fine", records=records))
        return _box("good", fine, chosen)
    title = tag("<strong>{text}</strong>", text=say(lang, "ui.data.bad", count=count, records=records))
    several = len({problem.file for problem in problems}) > 1
    lines = [_line(lang, problem, several) for problem in problems[:SHOWN_PROBLEMS]]
    if more := count - len(lines):
        lines.append(tag("<li>{text}</li>", text=say(lang, "ui.data.more", count=more)))
    listed = tag('<ul class="gs-badlines">{lines}</ul>', lines=lines)
    return _box("attention", title, chosen, fold(say(lang, "ui.data.lines"), listed, key="data-lines", unfolded=True))


def remarks(lang: str, notes: Sequence[Note]) -> Html:
    """What is no problem and yet worth knowing about the records; nothing where there is no such thing."""
    if not notes:
        return Html("")
    several = len({note.file for note in notes}) > 1
    lines = [
        tag("<li>{file}{text}</li>", file=_file_name(note.file) if several else "", text=note.text(lang))
        for note in notes[:SHOWN_NOTES]
    ]
    if more := len(notes) - len(lines):
        lines.append(tag("<li>{text}</li>", text=say(lang, "ui.data.more_notes", count=more)))
    title = tag("<strong>{text}</strong>", text=say(lang, "ui.data.notes"))
    return _box("note", title, tag('<ul class="gs-badlines">{lines}</ul>', lines=lines))


def histogram(lang: str, bars: Sequence[Bar], limit: int | None = None) -> Html:
    """How many records have how many tokens, with the limit as a line; nothing where there is no record."""
    total = sum(count for _, _, count in bars)
    if not total:
        return Html("")
    said = _lengths_said(lang, bars, limit)
    right = bars[-1][1]
    inside = limit is not None and limit <= right
    return tag(
        '<figure class="gs-lengths"><svg viewBox="0 0 {w} {h}" role="img" aria-label="{said}">{axes}{bars}{line}</svg>'
        "<figcaption><b>{title}</b><span>{said}</span></figcaption></figure>",
        w=_WIDTH,
        h=_HEIGHT,
        said=said,
        title=say(lang, "ui.data.lengths"),
        axes=_axes(lang, bars),
        bars=[_bar(bar, bars, limit) for bar in bars if bar[2]],
        line=_limit_line(lang, limit, right) if inside and limit is not None else Html(""),
    )


def record(lang: str, pieces: Sequence[Piece], number: int, total: int) -> Html:
    """One record as the model sees it; `number` is its place from 0. The buttons send `record` with the row to show."""
    counts = {kind: sum(piece.tokens for piece in pieces if piece.kind == kind) for kind in _MARKS}
    return tag(
        '<section class="gs-record" data-key="data-record"><header><h3>{title}</h3><div class="gs-row">{buttons}</div>'
        '</header><p class="gs-small">{counts}</p>{legend}<p class="gs-tokens" tabindex="0">{text}</p></section>',
        title=say(lang, "ui.data.record", number=number + 1, total=total),
        buttons=_steps(lang, number, total),
        counts=say(lang, "ui.data.counts", tokens=sum(counts.values()), trained=counts["trained"], cut=counts["cut"]),
        legend=_legend(lang),
        text=[_piece(piece.text, piece.kind, piece.special) for piece in pieces],
    )


def _box(look: str, *parts: Html) -> Html:
    return tag(
        '<div class="gs-problem gs-{look} gs-verdict">{icon}<div>{parts}</div></div>',
        look=look,
        icon=icon(look),
        parts=list(parts),
    )


def _file_name(file: str) -> Html:
    return tag("<b>{name}</b> ", name=Path(file).name)


def _line(lang: str, problem: Problem, several: bool) -> Html:
    place = say(lang, "ui.data.line", line=problem.line)
    fixable = tag(' <span class="gs-small">({text})</span>', text=say(lang, "ui.data.can_mend")) if problem.fix else ""
    return tag(
        "<li><b>{place}</b> {text}{fixable}</li>",
        place=f"{Path(problem.file).name} · {place}" if several else place,
        text=problem.text(lang),
        fixable=fixable,
    )


def _chosen(lang: str, chosen: Selection, plan: Plan | None) -> Html:
    """What is trained on, in sentences; zero counts are left out."""
    used, tokens, learned = chosen.used, chosen.tokens, chosen.learned
    held_back = plan.held_back if plan else 0
    if plan and held_back:
        used, tokens, learned = plan.learned_from, plan.trained_tokens, plan.trained_labels
    said = [
        say(lang, "ui.data.trained_on", used=used, tokens=tokens, learned=learned),
        *([say(lang, "ui.data.held_back", count=held_back)] if held_back else []),
        *(
            say(lang, f"ui.data.{name}", count=count)
            for name, count in (
                ("mixed", chosen.mixed),
                ("mended", chosen.mended),
                ("cut", chosen.cut),
                ("dropped", chosen.dropped),
                ("duplicates", chosen.duplicates),
                ("lost", chosen.lost),
            )
            if count
        ),
    ]
    return tag("<p>{text}</p>", text=("" if lang == "zh" else " ").join(said))


def _lengths_said(lang: str, bars: Sequence[Bar], limit: int | None) -> str:
    total = sum(count for _, _, count in bars)
    low, high = _quantile(bars, 0.1)[0], _quantile(bars, 0.9)[1]
    said = [say(lang, "ui.data.lengths_said", records=total, low=low, high=high)]
    if limit is not None and limit > bars[-1][1]:
        said.append(say(lang, "ui.data.beyond", limit=limit))
    elif limit is not None and (longer := sum(count for start, _, count in bars if start >= limit)):
        said.append(say(lang, "ui.data.lengths_over", count=longer, limit=limit))
    return ("" if lang == "zh" else " ").join(said)


def _quantile(bars: Sequence[Bar], share: float) -> tuple[int, int]:
    """The bar in which this share of the records is reached."""
    wanted, seen = share * sum(count for _, _, count in bars), 0
    for low, high, count in bars:
        seen += count
        if seen >= wanted and count:
            return low, high
    return bars[-1][:2]


def _x(tokens: float, right: int) -> float:
    return _LEFT + tokens / right * (_WIDTH - _LEFT - _RIGHT)


def _bar(bar: Bar, bars: Sequence[Bar], limit: int | None) -> Html:
    low, high, count = bar
    right, tallest = bars[-1][1], max(each for _, _, each in bars)
    height = max(1.5, count / tallest * (_HEIGHT - _TOP - _BOTTOM))  # one record among thousands is still seen
    left = _x(low, right) + 1
    return tag(
        '<rect class="{look}" x="{x}" y="{y}" width="{w}" height="{h}" rx="1.5"><title>{low}-{high}: {count}</title>'
        "</rect>",
        look="gs-over" if limit is not None and low >= limit else "gs-within",
        x=f"{left:.1f}",
        y=f"{_HEIGHT - _BOTTOM - height:.1f}",
        w=f"{max(1.0, _x(high, right) - left - 1):.1f}",
        h=f"{height:.1f}",
        low=f"{low + 1:,}",
        high=f"{high:,}",
        count=f"{count:,}",
    )


def _axes(lang: str, bars: Sequence[Bar]) -> Html:
    right, tallest = bars[-1][1], max(count for _, _, count in bars)
    floor = _HEIGHT - _BOTTOM
    places = [_text(_x(tokens, right), floor + 18, f"{tokens:,}") for tokens in _round_numbers(right)]
    return join(
        [
            tag('<path class="gs-grid" d="M{x} {y}H{to}"/>', x=_LEFT, y=floor, to=_WIDTH - _RIGHT),
            tag('<path class="gs-grid" d="M{x} {y}H{to}"/>', x=_LEFT, y=_TOP, to=_WIDTH - _RIGHT),
            _text(_LEFT - 8, _TOP + 4, f"{tallest:,}", "end"),
            _text(_LEFT - 8, floor, "0", "end"),
            _text(_LEFT, _TOP - 10, say(lang, "ui.data.records"), "start"),
            *places,
            _text(_WIDTH - _RIGHT, floor + 18, f"{right:,} {say(lang, 'ui.data.tokens')}", "end"),
        ]
    )


def _round_numbers(right: int) -> range:
    """Ticks of the axis: multiples of 1, 2 or 5 times a power of ten, none near the end, which has its own label."""
    power = 10 ** max(0, len(str(right)) - 2)
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor * 6 >= right)
    return range(0, max(1, round(right * 0.85)), step)


def _limit_line(lang: str, limit: int, right: int) -> Html:
    x = _x(limit, right)
    near_the_edge = x > _WIDTH / 2
    return tag(
        '<path class="gs-limit" d="M{x} {top}V{floor}"/>{label}',
        x=f"{x:.1f}",
        top=_TOP - 14,
        floor=_HEIGHT - _BOTTOM,
        label=_text(
            x - 6 if near_the_edge else x + 6,
            _TOP - 8,
            say(lang, "ui.data.limit", limit=limit),
            "end" if near_the_edge else "start",
            "gs-limit-label",
        ),
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", look: str = "") -> Html:
    return tag(
        '<text class="{look}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>',
        look=look,
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        anchor=anchor,
        text=text,
    )


def _steps(lang: str, number: int, total: int) -> list[Html]:
    parts = []
    if number > 0:
        parts.append(button("record", say(lang, "ui.data.previous"), look="quiet", row=number - 1))
    if number + 1 < total:
        parts.append(button("record", say(lang, "ui.data.next"), look="quiet", row=number + 1))
    return parts


def _legend(lang: str) -> Html:
    samples = [
        tag("<li>{sample}</li>", sample=_piece(say(lang, f"ui.data.{_NAMES[kind]}"), kind, False)) for kind in _MARKS
    ]
    samples.append(tag("<li>{sample}</li>", sample=_piece(say(lang, "ui.data.special"), "plain", True)))
    return tag(
        '<ul class="gs-legend" aria-label="{label}">{samples}</ul>', label=say(lang, "ui.data.legend"), samples=samples
    )


def _piece(text: str, kind: str, special: bool) -> Html:
    element = Html(_MARKS[kind])
    return tag(
        '<{element} class="gs-{kind}{special}">{text}</{element}>',
        element=element,
        kind=kind,
        special=Html(" gs-special") if special else "",
        text=text,
    )
