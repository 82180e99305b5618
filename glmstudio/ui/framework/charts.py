"""Curves: a sparkline for a list as inline SVG, and the data of a chart that `runs/chart.js` draws and zooms."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from glmstudio.ui.framework.markup import Html, tag
from glmstudio.words import say

Point = tuple[float, float]
Box = tuple[float, float, float, float]
_MOST = 600  # points of a line that are sent
_WORDS = ("smoothing", "log", "whole", "hint", "smoothed")


def sparkline(points: Sequence[Point], *, label: str) -> Html:
    """A curve in the height of a line of text; nothing without points."""
    points = _finite(thin(points, 60))
    if len(points) < 2:
        return Html('<span class="gs-spark"></span>')
    return tag(
        '<svg class="gs-spark" viewBox="0 0 120 28" preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<path d="{path}"/></svg>',
        label=label,
        path=_path(_placed(points, (1, 1, 118, 26))),
    )


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, its points, and how it looks.

    `look`: `noisy` is drawn thin with its running mean strong, `mean` as that mean alone, `dots` as it is, with dots.
    """

    name: str
    points: Sequence[Point]
    look: str = "noisy"


def chart(lang: str, series: Sequence[Series], *, label: str, x_label: str, last_x: float | None = None) -> Html:
    """A line chart with values under the pointer, smoothing, a log scale and zoom; nothing where there is no line.

    Only its data are sent: what somebody has zoomed into lives in the browser and survives each redrawing.
    """
    drawn = [(each, points) for each in series if (points := _finite(thin(each.points, _MOST)))]
    if sum(len(points) for _, points in drawn) < 2:
        return Html("")
    data = {
        "x": x_label,
        "last": last_x or 0,
        "words": {name: say(lang, f"ui.chart.{name}") for name in _WORDS},
        "lines": [
            [each.name, each.look, [x for x, _ in points], [_short(y) for _, y in points]] for each, points in drawn
        ],
    }
    return tag(
        '<gs-chart class="gs-curve" data-key="chart-{label}" data-label="{label}" data-chart="{data}"></gs-chart>',
        label=label,
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")),
    )


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most about `most` points of a curve; the first and the last stay."""
    if len(points) <= most:
        return list(points)
    stride = math.ceil(len(points) / most)
    kept = list(points[::stride])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low < 1e-9:
        return low - 0.5, high + 0.5
    pad = (high - low) * 0.05
    return (0.0 if 0 <= low < (high - low) * 0.4 else low - pad), high + pad


def _placed(points: Sequence[Point], box: Box) -> list[Point]:
    left, top, width, height = box
    x0, x1, (y0, y1) = points[0][0], points[-1][0], _range([y for _, y in points])
    wide, tall = (x1 - x0) or 1.0, (y1 - y0) or 1.0
    return [(left + (x - x0) / wide * width, top + (y1 - y) / tall * height) for x, y in points]


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
