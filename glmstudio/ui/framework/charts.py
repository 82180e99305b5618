"""Curves as inline SVG: a sparkline for a list, a full chart for the open run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from glmstudio.ui.framework.markup import Html, join, tag

Point = tuple[float, float]
Box = tuple[float, float, float, float]
COLOURS = 4
_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 20, 12, 28


def sparkline(points: Sequence[Point], *, label: str) -> Html:
    """A curve in the height of a line of text; nothing without points."""
    points = _finite(thin(points, 60))
    if len(points) < 2:
        return Html('<span class="gs-spark"></span>')
    path = _path(_placed(points, (1, 1, 118, 26)))
    return tag(
        '<svg class="gs-spark" viewBox="0 0 120 28" preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<path d="{path}"/></svg>',
        label=label,
        path=path,
    )


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, its points, and how it looks.

    `look`: `noisy` is drawn thin with its running mean strong, `mean` as that mean alone, `dots` as it is, with dots.
    """

    name: str
    points: Sequence[Point]
    look: str = "noisy"


def curve(series: Sequence[Series], *, label: str, x_label: str, last_x: float | None = None) -> Html:
    """A line chart with its axes; several lines are told apart by colour and by a legend in words."""
    drawn = [Series(each.name, thin(points, 400), each.look) for each in series if (points := _finite(each.points))]
    every = [point for each in drawn for point in each.points]
    if len(every) < 2:
        return Html("")
    box = (_LEFT, _TOP, _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM)
    low, high = _range([y for _, y in every])
    first, right = min(x for x, _ in every), max(last_x or 0, *(x for x, _ in every))
    span = (min(first, right - 1), right, low, high)
    return tag(
        '<figure class="gs-curve"><svg viewBox="0 0 640 240" role="img" aria-label="{label}">{grid}{lines}</svg>'
        "<figcaption>{legend}<span>{x_label}</span></figcaption></figure>",
        label=label,
        grid=_grid(span, box),
        lines=[_line(each, index, box, span) for index, each in enumerate(drawn)],
        x_label=x_label,
        legend=[_key(each.name, index) for index, each in enumerate(drawn)],
    )


def _key(name: str, index: int) -> Html:
    return tag('<span class="gs-key"><i class="gs-line-{index}"></i>{name}</span>', index=index % COLOURS, name=name)


def _line(series: Series, index: int, box: Box, span: Box) -> Html:
    strong = _smooth(series.points) if series.look in ("noisy", "mean") else series.points
    placed = _placed(strong, box, span)
    dots = [(f"{x:.1f}", f"{y:.1f}") for x, y in placed] if series.look == "dots" or len(placed) == 1 else []
    return tag(
        '<g class="gs-line-{index}">{raw}<path class="gs-mean" d="{mean}"/>{dots}</g>',
        index=index % COLOURS,
        raw=tag('<path class="gs-raw" d="{d}"/>', d=_path(_placed(series.points, box, span)))
        if series.look == "noisy"
        else "",
        mean=_path(placed),
        dots=[tag('<circle cx="{x}" cy="{y}" r="3.2"/>', x=x, y=y) for x, y in dots],
    )


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most about `most` points of a curve; the first and the last stay."""
    if len(points) <= most:
        return list(points)
    stride = math.ceil(len(points) / most)
    kept = list(points[::stride])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _smooth(points: Sequence[Point]) -> list[Point]:
    """An exponential moving average with bias correction."""
    weight, mean, out = 0.8, 0.0, []
    for index, (x, y) in enumerate(points, start=1):
        mean = weight * mean + (1 - weight) * y
        out.append((x, mean / (1 - weight**index)))
    return out


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low < 1e-9:
        return low - 0.5, high + 0.5
    pad = (high - low) * 0.05
    return (0.0 if 0 <= low < (high - low) * 0.4 else low - pad), high + pad


def _placed(
    points: Sequence[Point],
    box: Box,
    span: Box | None = None,
) -> list[Point]:
    left, top, width, height = box
    x0, x1, y0, y1 = span or (points[0][0], points[-1][0], *_range([y for _, y in points]))
    wide, tall = (x1 - x0) or 1.0, (y1 - y0) or 1.0
    return [(left + (x - x0) / wide * width, top + (y1 - y) / tall * height) for x, y in points]


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _grid(span: Box, box: Box) -> Html:
    left, top, width, height = box
    parts: list[Html] = []
    for value in _ticks(span[2], span[3], 4):
        (_, y), *_ = _placed([(span[0], value)], box, span)
        parts.append(tag('<path class="gs-grid" d="M{x} {y}h{w}"/>', x=left, y=f"{y:.1f}", w=width))
        parts.append(
            tag('<text x="{x}" y="{y}" text-anchor="end">{v}</text>', x=left - 8, y=f"{y + 4:.1f}", v=f"{value:g}")
        )
    for value in _ticks(span[0], span[1], 6):
        (x, _), *_ = _placed([(value, span[2])], box, span)
        parts.append(
            tag(
                '<text x="{x}" y="{y}" text-anchor="middle">{v}</text>',
                x=f"{x:.1f}",
                y=top + height + 20,
                v=f"{value:g}",
            )
        )
    return join(parts)


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two values, about `about` of them."""
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [round(index * step, 10) for index in range(first, math.floor(high / step) + 1)]
