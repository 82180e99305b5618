"""The tools of the chat: whether they are offered, when each may run, and one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from glmstudio.chat.available_tools import asked_with_tools, toolless
from glmstudio.errors import StudioError
from glmstudio.models.library import DEMO_NAME
from glmstudio.paths import paths
from glmstudio.tools.added_file import AddedFile, add_file, look_at
from glmstudio.tools.permissions import folder, permission, set_folder, set_permission
from glmstudio.tools.tool import PERMISSIONS
from glmstudio.tools.toolbox import Tool, toolbox
from glmstudio.ui.chat.chat_model import chosen_adapter, chosen_model
from glmstudio.ui.chat.chat_side import shown_conversation
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.markup import Html, button, fold, icon, problem, tag
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state import uploads
from glmstudio.ui.state.page_state import ChatState
from glmstudio.words import say


def build_tools(page: PageRenderer) -> None:
    """The tools and their permissions."""
    page.panel("chat-tools", render_tools, act_tools)
    sent = gr.UploadButton(elem_id="chat-tool-file", size="sm", file_types=[".py"], file_count="single")
    page.live(sent, lambda lang, _: {"label": say(lang, "ui.chat.tool_file")})
    page.on(sent.upload, take_tool_file, inputs=[sent])
    page.panel("chat-tool-shown", render_tool_file, act_tool_file)


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


def take_tool_file(chat: ChatState, file: str | None) -> ChatState:
    """Show what a file would add; nothing of it is run, and nothing is added yet."""
    if not file:
        return chat
    drop_tool_file(chat)
    try:
        look_at(Path(file))
    except StudioError as error:
        uploads.drop(Path(file))
        return replace(chat, problem=error, tool_file="")
    return replace(chat, problem=None, tool_file=str(file))


def drop_tool_file(chat: ChatState) -> None:
    """Delete what was sent and is not going to be added."""
    if chat.tool_file:
        uploads.drop(Path(chat.tool_file))


def act_tool_file(chat: ChatState, data: dict[str, Any]) -> ChatState:
    """Add the file, or leave it."""
    if not chat.tool_file:
        return chat
    told = None
    try:
        if data.get("act") in ("tool-add", "tool-replace"):
            added = add_file(Path(chat.tool_file), replacing=data["act"] == "tool-replace")
            told = ("ui.chat.tool_added", {"file": added.name})
    except StudioError as error:
        return replace(chat, problem=error)
    drop_tool_file(chat)
    return replace(chat, tool_file="", problem=None, told=told)


def render_tool_file(lang: str, chat: ChatState) -> Html:
    """The functions of a file that was sent, as they were read, and what becomes of it."""
    if not chat.tool_file:
        return Html("")
    try:
        found = _looked_at(chat.tool_file)
    except StudioError as error:
        return tag('<div class="gs-stack">{wrong}{no}</div>', wrong=problem(lang, error), no=_leave_button(lang))
    needs = [say(lang, f"ui.chat.tool_need_{need}") for need in found.needs] or [say(lang, "ui.chat.tool_need_none")]
    known = (
        problem(lang, StudioError("ui.chat.tool_known", file=found.name), kind="attention") if found.is_known else ""
    )
    act, words = ("tool-replace", "ui.chat.tool_replace") if found.is_known else ("tool-add", "ui.chat.tool_add")
    return tag(
        '<section class="gs-stack gs-toolfile" aria-label="{name}"><h3>{name}</h3>'
        '<p class="gs-small">{text}</p><p class="gs-small">{needs}</p>'
        '<ul class="gs-tools">{tools}</ul>{known}<div class="gs-row">{yes}{no}</div></section>',
        name=found.name,
        text=say(lang, "ui.chat.tool_read"),
        needs=[tag("<span>{need}</span> ", need=need) for need in needs],
        tools=[_signature(each) for each in found.tools],
        known=known,
        yes=button(act, say(lang, words), look="danger" if found.is_known else "primary"),
        no=_leave_button(lang),
    )


@cached(2.0, lambda file: file)
def _looked_at(file: str) -> AddedFile:
    return look_at(Path(file))


def _leave_button(lang: str) -> Html:
    return button("tool-leave", say(lang, "ui.chat.leave"), look="quiet")


def _signature(tool: Tool) -> Html:
    """A function with its arguments and what it says of itself."""
    required = tool.parameters["required"]
    arguments = ", ".join(
        f"{name}: {schema.get('type', '?')}{'' if name in required else ' = …'}"
        for name, schema in tool.parameters["properties"].items()
    )
    return tag(
        '<li data-key="new-{name}"><div><code>{name}({arguments})</code>'
        '<span class="gs-small">{about}</span></div></li>',
        name=tool.name,
        arguments=arguments,
        about=tool.description,
    )


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
    return asked_with_tools(chosen_model(chat), chosen_adapter(chat)) if chosen is None else chosen


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
