"""A table that never scrolls sideways: where its place is narrow, each row becomes a list of named values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glmstudio.ui.framework.markup import Html, tag

_LONG = 16  # characters


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], *, keys: Sequence[str] = ()) -> Html:
    """Rows of cells under their heads; `keys` name the rows for redrawing."""
    return tag(
        '<div class="gs-tablebox"><table class="gs-table gs-stacking"><thead><tr>{heads}</tr></thead>'
        "<tbody>{rows}</tbody></table></div>",
        heads=[
            tag("<th{mark}>{head}</th>", mark=_mark(head), head=head) if head else Html("<td></td>") for head in heads
        ],
        rows=[_row(heads, row, keys[at] if keys else str(at)) for at, row in enumerate(rows)],
    )


def _row(heads: Sequence[str], cells: Sequence[Any], key: str) -> Html:
    return tag(
        '<tr data-key="{key}">{cells}</tr>',
        key=key,
        cells=[
            tag('<td data-label="{head}"{mark}>{cell}</td>', head=head, mark=_mark(cell), cell=cell)
            for head, cell in zip(heads, cells, strict=True)
        ],
    )


def _mark(cell: Any) -> Html:
    """Long texts may break anywhere; a figure or a short word never does."""
    long = isinstance(cell, str) and not isinstance(cell, Html) and len(cell) > _LONG
    return Html(' class="gs-long"') if long else Html("")
