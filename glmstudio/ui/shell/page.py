"""The page: header, rail and the four steps, and the language of a visitor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from glmstudio.ui.chat import chat_step
from glmstudio.ui.doctor import doctor_step
from glmstudio.ui.finetune import finetune_step
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.model import model_step
from glmstudio.ui.shell import frame
from glmstudio.ui.state import kept_form, ways
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.choice import kept_chat
from glmstudio.ui.state.page_state import PageState


def build_page() -> tuple[gr.Blocks, PageRenderer]:
    """The whole page, wired."""
    with gr.Blocks(title="GLM Studio", analytics_enabled=False, fill_width=True) as blocks:
        page = PageRenderer(speaks, PageState())
        page.panel("header", frame.render_header, frame.redraw)
        page.panel("rail", frame.render_rail, frame.redraw)
        page.panel("notice", frame.render_notice)
        doctor_step.build(page)
        model_step.build(page)
        finetune_step.build(page)
        chat_step.build(page)
        page.connect(arrive, blocks.load)
    blocks.queue(default_concurrency_limit=None, api_open=False)
    return blocks, page


def arrive(kept: dict[str, Any]) -> PageState:
    """The state of a page that was just opened, with what its browser `kept`; the first one starts the check-up."""
    CHECKUP.start(unless_fresh=True)
    form = kept_form.bring_back(kept.get("form"))
    form = form if form.source else replace(form, source=ways.remembered())
    return PageState(finetune=form, chat=kept_chat(kept.get("chat")))


def speaks(request: gr.Request) -> str:
    """The language of a request."""
    return language(request.cookies.get("glmstudio_lang"), request.headers.get("accept-language"))


def language(remembered: str | None, accepted: str | None) -> str:
    """The language that was chosen before, or the first supported one of the browser's list."""
    if remembered in ("en", "zh"):
        return remembered
    ranked: list[tuple[float, str]] = []
    for entry in (accepted or "").lower().split(","):
        name, _, quality = entry.strip().partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            weight = 0.0
        if name[:2] in ("en", "zh"):
            ranked.append((-weight, name[:2]))
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else "en"
