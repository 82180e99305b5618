"""The side bar of the chat: history, sampling, and tools."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import gradio as gr

from glmstudio.chat import history
from glmstudio.chat.available_tools import toolless
from glmstudio.chat.conversation import ChatSettings
from glmstudio.chat.sampling import PRESETS, Sampling
from glmstudio.errors import StudioError
from glmstudio.models.library import DEMO_NAME
from glmstudio.paths import paths
from glmstudio.tools.permissions import folder, permission, set_folder, set_permission
from glmstudio.tools.tool import PERMISSIONS
from glmstudio.tools.toolbox import Tool, toolbox
from glmstudio.ui.chat.chat_model import chosen_adapter, chosen_model
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.markup import Html, button, fold, icon, problem, tag
from glmstudio.ui.state.conversations import CONVERSATIONS, OpenConversation
from glmstudio.ui.state.page_state import ChatState
from glmstudio.units import moment
from glmstudio.words import say

CUSTOM = "custom"
_LONGEST_SYSTEM = 8000
_MOST_TOKENS = 8192


def shown_conversation(chat: ChatState) -> OpenConversation:
    """The shown conversation: the one that was opened, else the last changed, else a new one."""
    if chat.conversation:
        try:
            return CONVERSATIONS.get(chat.conversation)
        except StudioError:
            pass  # somebody deleted it; another one is shown
    latest = next(iter(history.headings()), None)
    try:
        return CONVERSATIONS.get(latest.id) if latest else CONVERSATIONS.blank()
    except StudioError:
        return CONVERSATIONS.blank()


def build_history(page: PageRenderer) -> None:
    """The list of conversations, and the import button."""
    page.panel("chat-history", render_history, act_history)
    taken = gr.UploadButton(elem_id="chat-import", size="sm", file_types=[".json"], file_count="single")
    page.live(taken, lambda lang, _: {"label": say(lang, "ui.chat.import")})
    page.on(taken.upload, take_in, inputs=[taken])


def build_answering(page: PageRenderer) -> None:
    """System prompt and sampling; a change applies to the next question."""
    with gr.Accordion(open=False, elem_id="chat-answering") as place:
        page.live(place, lambda lang, _: {"label": say(lang, "ui.chat.answering")})
        system = gr.Textbox(lines=3, max_lines=8, max_length=_LONGEST_SYSTEM, elem_id="chat-system")
        page.live(system, _system)
        preset = page.live(gr.Radio(elem_id="chat-preset", choices=[]), _preset)
        temperature = page.live(gr.Slider(0, 2, step=0.05, elem_id="chat-temperature"), _slider("temperature"))
        top_p = page.live(gr.Slider(0.05, 1, step=0.05, elem_id="chat-top-p"), _slider("top_p"))
        most = gr.Number(precision=0, minimum=1, maximum=_MOST_TOKENS, elem_id="chat-most")
        page.live(most, _slider("max_tokens"))
        seed = page.live(gr.Number(precision=0, minimum=0, elem_id="chat-seed"), _slider("seed"))
    page.on(system.blur, set_system, inputs=[system])
    page.on(preset.input, set_preset, inputs=[preset])
    for component, name in ((temperature, "temperature"), (top_p, "top_p"), (most, "max_tokens"), (seed, "seed")):
        event = component.release if isinstance(component, gr.Slider) else component.blur
        page.on(event, _setter(name), inputs=[component])


def build_tools(page: PageRenderer) -> None:
    """The tools and their permissions."""
    page.panel("chat-tools", render_tools, act_tools)


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


def render_tools(lang: str, chat: ChatState) -> Html:
    """Each tool with its permission; broken files; and where one's own belong."""
    box, offering = toolbox(), offers_tools(chat)
    switch = [
        tag(
            '<button type="button" data-act="{act}" aria-pressed="{on}">{label}</button>',
            act=f"tools-{name}",
            on="true" if offering == (name == "on") else "false",
            label=say(lang, f"ui.chat.tools_{name}"),
        )
        for name in ("on", "off")
    ]
    rows = [_tool(lang, tool) for tool in box.tools.values()]
    broken = [
        tag('<div data-key="x{file}">{problem}</div>', file=each.file, problem=problem(lang, each.problem))
        for each in box.broken
    ]
    body = tag(
        '<div class="gs-stack"><div class="gs-segment" role="group" aria-label="{label}">{switch}</div>'
        '<p class="gs-small">{info}</p><ul class="gs-tools">{rows}</ul>{broken}{folder}'
        '<p class="gs-small">{own}</p>{demo}</div>',
        label=say(lang, "ui.chat.tools"),
        switch=switch,
        info=say(lang, "ui.chat.tools_info"),
        rows=rows,
        broken=broken,
        folder=_folder(lang),
        own=say(lang, "ui.chat.tools_own", folder=str(paths().tools)),
        demo=_demo_note(lang, chat),
    )
    return fold([icon("tool"), say(lang, "ui.chat.tools")], body, key="tools")


def _demo_note(lang: str, chat: ChatState) -> Html:
    if chosen_model(chat) != DEMO_NAME:
        return Html("")
    return tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.chat.tools_demo"))


def _tool(lang: str, tool: Tool) -> Html:
    now = permission(tool)
    choices = [
        tag(
            '<button type="button" data-act="permit" data-tool="{name}" data-value="{value}" aria-pressed="{on}">'
            "{label}</button>",
            name=tool.name,
            value=value,
            on="true" if value == now else "false",
            label=say(lang, f"ui.chat.permit_{value}"),
        )
        for value in PERMISSIONS
    ]
    return tag(
        '<li data-key="tool-{name}"><div><b>{title}</b><span class="gs-small">{about}</span></div>'
        '<div class="gs-segment" role="group" aria-label="{title}">{choices}</div></li>',
        name=tool.name,
        title=tool.title(lang),
        about=tool.about(lang),
        choices=choices,
    )


def _folder(lang: str) -> Html:
    """The folder that the tools for files may read."""
    return tag(
        '<div class="gs-fields gs-one" data-scope><label class="gs-wide">{label}<input data-field="folder"'
        ' value="{value}" placeholder="{example}"></label>{button}</div>',
        label=say(lang, "ui.chat.folder"),
        value=str(folder() or ""),
        example=say(lang, "ui.chat.folder_none"),
        button=button("folder", say(lang, "ui.chat.folder_set")),
    )


_TOOLS = {"tools-on": True, "tools-off": False, "tools-trained": None}


def offers_tools(chat: ChatState) -> bool:
    """Whether the next question is asked with tools."""
    chosen = shown_conversation(chat).conversation.settings.tools
    return toolless(chosen_model(chat), chosen_adapter(chat)) is None if chosen is None else chosen


def render_form(lang: str, chat: ChatState) -> Html:
    """If the chosen model was trained without tools: how it is asked, and a button to change that."""
    run = toolless(chosen_model(chat), chosen_adapter(chat))
    if run is None:
        return Html("")
    with_tools = offers_tools(chat)
    note = StudioError("ui.chat.form_differs" if with_tools else "ui.chat.form_without", name=run.name)
    other = "tools-trained" if with_tools else "tools-on"
    return tag(
        '<div class="gs-row gs-form-note">{note}{other}</div>',
        note=problem(lang, note, kind="attention" if with_tools else "note"),
        other=button(other, say(lang, "ui.chat.form_trained" if with_tools else "ui.chat.form_offer")),
    )


def act_tools(chat: ChatState, data: dict[str, Any]) -> ChatState:
    """Switch tools on or off, permit one, or choose the folder."""
    act, fields = data.get("act"), data.get("fields")
    try:
        if act in _TOOLS:
            shown_conversation(chat).conversation.settings.tools = _TOOLS[str(act)]
            shown_conversation(chat).keep()
        elif act == "permit" and (tool := toolbox().tools.get(str(data.get("tool")))):
            if data.get("value") in PERMISSIONS:
                set_permission(tool, str(data["value"]))
        elif act == "folder" and isinstance(fields, dict):
            set_folder(str(fields.get("folder", "")).strip() or None)
    except StudioError as error:
        return replace(chat, problem=error)
    return replace(chat, problem=None)


def set_system(chat: ChatState, text: str) -> ChatState:
    """Set the system prompt."""
    opened = shown_conversation(chat)
    opened.conversation.settings.system = str(text or "")[:_LONGEST_SYSTEM]
    opened.keep()
    return chat


def set_preset(chat: ChatState, name: str) -> ChatState:
    """Use the sampling of a preset."""
    opened = shown_conversation(chat)
    settings = opened.conversation.settings
    if name in PRESETS:
        chosen = PRESETS[name]
        settings.sampling = replace(settings.sampling, temperature=chosen.temperature, top_p=chosen.top_p)
    settings.preset = name if name in PRESETS else CUSTOM
    opened.keep()
    return chat


def _setter(name: str) -> Any:
    def put(chat: ChatState, value: float | None) -> ChatState:
        opened = shown_conversation(chat)
        settings = opened.conversation.settings
        settings.sampling = replace(settings.sampling, **{name: _bounded(name, value, settings.sampling)})
        alike = (
            key
            for key, each in PRESETS.items()
            if (each.temperature, each.top_p) == (settings.sampling.temperature, settings.sampling.top_p)
        )
        settings.preset = next(alike, CUSTOM)
        opened.keep()
        return chat

    return put


def _bounded(name: str, value: float | None, now: Sampling) -> Any:
    if name == "seed":
        return None if value is None or value < 0 else int(value) % 2**63
    if value is None:
        return getattr(now, name)
    if name == "max_tokens":
        return max(1, min(_MOST_TOKENS, int(value)))
    return max(0.0 if name == "temperature" else 0.05, min(2.0 if name == "temperature" else 1.0, float(value)))


def _settings(chat: ChatState) -> ChatSettings:
    return shown_conversation(chat).conversation.settings


def _system(lang: str, chat: ChatState) -> dict[str, Any]:
    return {
        "label": say(lang, "ui.chat.system"),
        "placeholder": say(lang, "ui.chat.system_example"),
        "value": _settings(chat).system,
    }


def _preset(lang: str, chat: ChatState) -> dict[str, Any]:
    names = [(say(lang, f"ui.chat.preset_{name}"), name) for name in (*PRESETS, CUSTOM)]
    return {"label": say(lang, "ui.chat.preset"), "choices": names, "value": _settings(chat).preset}


def _slider(name: str) -> Any:
    return lambda lang, chat: {
        "label": say(lang, f"ui.chat.{name}"),
        "info": say(lang, f"ui.chat.{name}_info"),
        "value": getattr(_settings(chat).sampling, name),
    }
