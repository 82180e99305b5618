"""A curve as a picture that any program shows: SVG in one colour scheme, without a script and without the page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 28, 30
_COLOURS = ("#0b6b60", "#b05a00")
_MOST = 600  # points that are drawn


def curve_svg(lines: Sequence[tuple[str, Points]], *, x_label: str) -> str:
    """The lines, each with its name; an empty picture where there are no two points."""
    shown = [(name, _finite(points)) for name, points in lines]
    every = [point for _, points in shown for point in points]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
        f' font-size="12"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
    )
    if len(every) < 2:
        return f"{head}</svg>\n"
    span = _span(every)
    parts = [_axes(span, x_label), *(_line(at, name, points, span) for at, (name, points) in enumerate(shown))]
    return f"{head}{''.join(parts)}</svg>\n"


def _finite(points: Points) -> list[tuple[float, float]]:
    known = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    stride = math.ceil(len(known) / _MOST) or 1
    return known[::stride] + (known[-1:] if stride > 1 else [])


def _span(every: Points) -> tuple[float, float, float, float]:
    low, high = min(y for _, y in every), max(y for _, y in every)
    low = 0.0 if 0 <= low < 0.4 * high else low
    first, last = min(x for x, _ in every), max(x for x, _ in every)
    return first, last if last > first else first + 1, low, high if high > low else low + 1


def _place(x: float, y: float, span: tuple[float, float, float, float]) -> tuple[float, float]:
    first, last, low, high = span
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    return _LEFT + wide * (x - first) / (last - first), _TOP + tall * (high - y) / (high - low)


def _axes(span: tuple[float, float, float, float], x_label: str) -> str:
    first, last, low, high = span
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    rows = [low + (high - low) * part / 4 for part in range(5)]
    grid = [f'<path d="M{_LEFT} {_place(first, y, span)[1]:.1f}H{right}" stroke="#dae2de"/>' for y in rows]
    marks = [
        f'<text x="{_LEFT - 6}" y="{_place(first, y, span)[1] + 4:.1f}" text-anchor="end" fill="#53635d">{y:.3g}</text>'
        for y in rows
    ]
    ends = (
        f'<text x="{_LEFT}" y="{bottom + 18}" fill="#53635d">{first:g}</text>'
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end" fill="#53635d">{html.escape(x_label)} {last:g}</text>'
    )
    return "".join([*grid, *marks, ends])


def _line(at: int, name: str, points: Points, span: tuple[float, float, float, float]) -> str:
    if not points:
        return ""
    colour = _COLOURS[at % len(_COLOURS)]
    placed = [_place(x, y, span) for x, y in points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
    few = len(placed) <= 40
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in placed] if few else []
    x = _LEFT + 200 * at
    key = (
        f'<path d="M{x} 14h18" stroke="{colour}" stroke-width="3"/><text x="{x + 24}" y="18">{html.escape(name)}</text>'
    )
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>{"".join(dots)}{key}'
