"""The list of conversations: opened, named, pinned, searched, kept as files, deleted."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from glmstudio.chat import history
from glmstudio.chat.conversation import LONGEST_TITLE, Conversation
from glmstudio.errors import StudioError
from glmstudio.ui.chat.chat_side import shown_conversation
from glmstudio.ui.framework.file_picker import file_input, pick_button
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.markup import Html, button, fold, icon, tag
from glmstudio.ui.state.conversations import CONVERSATIONS
from glmstudio.ui.state.page_state import ChatState
from glmstudio.units import moment
from glmstudio.words import say

_SEARCHABLE = 5  # so many conversations have a box to search them
_LONGEST_SEARCH = 200
_FILE = "chat-import"


def build_history(page: PageRenderer) -> None:
    """The list of conversations, and the import button."""
    page.panel("chat-history", render_history, act_history)
    file_input(page, _FILE, take_in, file_types=[".json"])


def render_history(lang: str, chat: ChatState) -> Html:
    """The conversations, pinned ones first, then last changed; and what can be done with the one that is shown."""
    shown = shown_conversation(chat).conversation
    every = history.headings()
    found = history.headings(chat.find) if chat.find else every
    rows = [_heading(lang, each, each.id == shown.id) for each in found]
    none = "" if rows or not chat.find else tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.chat.find_none"))
    body = tag(
        '<div class="gs-stack">{find}<ul class="gs-conversations">{rows}</ul>{none}{keeping}</div>',
        find=_search(lang, chat) if chat.find or len(every) >= _SEARCHABLE else "",
        rows=rows,
        none=none,
        keeping=_keeping(lang, shown) if shown.turns else "",
    )
    return tag(
        '<div class="gs-stack">{fold}<div>{take}</div></div>',
        fold=fold(say(lang, "ui.chat.history", count=len(every)), body, key="history"),
        take=pick_button(_FILE, say(lang, "ui.chat.import")),
    )


def _search(lang: str, chat: ChatState) -> Html:
    return tag(
        '<div data-scope data-live="find" class="gs-find"><input data-field="find" type="search" maxlength="{longest}"'
        ' value="{value}" placeholder="{label}" aria-label="{label}"></div>',
        longest=_LONGEST_SEARCH,
        value=chat.find,
        label=say(lang, "ui.chat.find"),
    )


@lru_cache(maxsize=1000)
def _heading(lang: str, each: history.Heading, current: bool) -> Html:
    return tag(
        '<li data-key="h{id}"{current}>{pin}{open}<span class="gs-small">{when}</span></li>',
        id=each.id,
        current=Html(' aria-current="true"') if current else "",
        pin=_pin(lang) if each.pinned else "",
        open=button("open", each.title or say(lang, "ui.chat.untitled"), look="quiet", chat=each.id),
        when=moment(each.changed),
    )


def _pin(lang: str) -> Html:
    label = say(lang, "ui.chat.pinned")
    return tag('<span class="gs-pin" role="img" aria-label="{label}">{icon}</span>', label=label, icon=icon("pin"))


def _keeping(lang: str, shown: Conversation) -> Html:
    """Name, pin, files, delete."""
    name = tag(
        '<div data-scope class="gs-row gs-named"><input data-field="title" maxlength="{longest}" value="{title}"'
        ' aria-label="{label}">{rename}{pin}</div>',
        longest=LONGEST_TITLE,
        title=shown.title,
        label=say(lang, "ui.chat.title"),
        rename=button("rename", say(lang, "ui.chat.rename"), look="quiet", chat=shown.id),
        pin=button("pin", say(lang, "ui.chat.unpin" if shown.pinned else "ui.chat.pin"), look="quiet", chat=shown.id),
    )
    return tag(
        '{name}<div class="gs-row"><a class="gs-button gs-look-quiet" href="/chats/{id}.md" download>{text}</a>'
        '<a class="gs-button gs-look-quiet" href="/chats/{id}.json" download>{json}</a>{delete}</div>',
        name=name,
        id=shown.id,
        text=say(lang, "ui.chat.export_text"),
        json=say(lang, "ui.chat.export_json"),
        delete=button(
            "delete",
            say(lang, "ui.chat.delete"),
            look="quiet",
            chat=shown.id,
            confirm=say(lang, "ui.chat.delete_confirm"),
            yes=say(lang, "ui.chat.delete"),
            no=say(lang, "ui.chat.leave"),
        ),
    )


def act_history(chat: ChatState, data: dict[str, Any]) -> ChatState:
    """Open, name, pin, search or delete."""
    act, name, fields = data.get("act"), str(data.get("chat", "")), data.get("fields")
    fields = fields if isinstance(fields, dict) else {}
    if act == "find":
        return replace(chat, find=str(fields.get("find", "")).strip()[:_LONGEST_SEARCH])
    chat = replace(chat, edited="", taught="", problem=None)
    if act == "delete":
        CONVERSATIONS.forget(name)
        return replace(chat, conversation="")
    opened = CONVERSATIONS.get(name)
    if act == "rename":
        title = " ".join(str(fields.get("title", "")).split())[:LONGEST_TITLE]
        opened.conversation.title = title or opened.conversation.title
        opened.keep()
    elif act == "pin":
        opened.conversation.pinned = not opened.conversation.pinned
        opened.keep()
    return replace(chat, conversation=opened.conversation.id)


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
