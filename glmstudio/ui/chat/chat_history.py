"""The list of conversations: opened, named, pinned, searched, kept as files, deleted."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import gradio as gr

from glmstudio.chat import history
from glmstudio.errors import StudioError
from glmstudio.ui.chat.chat_side import shown_conversation
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.markup import Html, button, fold, tag
from glmstudio.ui.state.conversations import CONVERSATIONS
from glmstudio.ui.state.page_state import ChatState
from glmstudio.units import moment
from glmstudio.words import say


def build_history(page: PageRenderer) -> None:
    """The list of conversations, and the import button."""
    page.panel("chat-history", render_history, act_history)
    taken = gr.UploadButton(elem_id="chat-import", size="sm", file_types=[".json"], file_count="single")
    page.live(taken, lambda lang, _: {"label": say(lang, "ui.chat.import")})
    page.on(taken.upload, take_in, inputs=[taken])


def render_history(lang: str, chat: ChatState) -> Html:
    """The conversations, last changed first."""
    shown = shown_conversation(chat).conversation
    rows = [_heading(lang, each, each.id == shown.id) for each in history.headings()]
    keeping = _keeping(lang, shown.id) if shown.turns else ""
    body = tag('<ul class="gs-conversations">{rows}</ul>{keeping}', rows=rows, keeping=keeping)
    return fold(say(lang, "ui.chat.history", count=len(rows)), body, key="history")


@lru_cache(maxsize=1000)
def _heading(lang: str, each: history.Heading, current: bool) -> Html:
    return tag(
        '<li data-key="h{id}"{current}>{open}<span class="gs-small">{when}</span></li>',
        id=each.id,
        current=Html(' aria-current="true"') if current else "",
        open=button("open", each.title or say(lang, "ui.chat.untitled"), look="quiet", chat=each.id),
        when=moment(each.changed),
    )


def _keeping(lang: str, name: str) -> Html:
    return tag(
        '<div class="gs-row"><a class="gs-button gs-look-quiet" href="/chats/{name}.md" download>{text}</a>'
        '<a class="gs-button gs-look-quiet" href="/chats/{name}.json" download>{json}</a>{delete}</div>',
        name=name,
        text=say(lang, "ui.chat.export_text"),
        json=say(lang, "ui.chat.export_json"),
        delete=button(
            "delete",
            say(lang, "ui.chat.delete"),
            look="quiet",
            chat=name,
            confirm=say(lang, "ui.chat.delete_confirm"),
            yes=say(lang, "ui.chat.delete"),
            no=say(lang, "ui.chat.leave"),
        ),
    )


def act_history(chat: ChatState, data: dict[str, Any]) -> ChatState:
    """Open or delete a conversation."""
    name = str(data.get("chat", ""))
    chat = replace(chat, edited="", taught="", problem=None)
    if data.get("act") == "delete":
        CONVERSATIONS.forget(name)
        return replace(chat, conversation="")
    return replace(chat, conversation=CONVERSATIONS.get(name).conversation.id) if data.get("act") == "open" else chat


def take_in(chat: ChatState, file: str | None) -> ChatState:
    """Import a conversation from an uploaded file."""
    if not file:
        return chat
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            text = opened.read(history.LARGEST_IMPORT + 1)
        return replace(chat, conversation=history.take_in(text).id, problem=None)
    except StudioError as error:
        return replace(chat, problem=error)
