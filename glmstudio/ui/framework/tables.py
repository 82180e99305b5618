"""A table that never scrolls sideways: where its place is narrow, each row becomes a list of named values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glmstudio.ui.framework.markup import Html, tag


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], *, keys: Sequence[str] = ()) -> Html:
    """Rows of cells under their heads; `keys` name the rows for redrawing."""
    return tag(
        '<div class="gs-tablebox"><table class="gs-table gs-stacking"><thead><tr>{heads}</tr></thead>'
        "<tbody>{rows}</tbody></table></div>",
        heads=[tag("<th>{head}</th>", head=head) for head in heads],
        rows=[_row(heads, row, keys[at] if keys else str(at)) for at, row in enumerate(rows)],
    )


def _row(heads: Sequence[str], cells: Sequence[Any], key: str) -> Html:
    return tag(
        '<tr data-key="{key}">{cells}</tr>',
        key=key,
        cells=[
            tag('<td data-label="{head}">{cell}</td>', head=head, cell=cell)
            for head, cell in zip(heads, cells, strict=True)
        ],
    )
