"""Files that a browser sends: an input that is never seen, and buttons of our own that open it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.markup import Html, tag
from glmstudio.ui.framework.registered import Action


def file_input(page: PageRenderer, name: str, take: Action, **options: Any) -> None:
    """The input `name`, whose files go to `take`; `options` are those of `gr.UploadButton`.

    Nothing of it is live: gradio describes the format of a file anew each time that a refresh names such a button, and
    four of them took a sixth of what a click costs.
    """
    made = gr.UploadButton("+", elem_id=name, elem_classes="gs-file-input", **options)
    page.on(made.upload, take, inputs=[made])


def pick_button(name: str, label: str, *, id: str = "") -> Html:  # noqa: A002  the attribute's name
    """The button that opens the input `name`."""
    return tag(
        '<button type="button" class="gs-button gs-look-plain"{id} data-pick="{name}">{label}</button>',
        id=tag(' id="{id}"', id=id) if id else "",
        name=name,
        label=label,
    )
