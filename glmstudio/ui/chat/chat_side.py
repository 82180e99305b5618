"""The conversation that is shown, and how it is answered: system prompt and sampling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from glmstudio.chat import history
from glmstudio.chat.conversation import ChatSettings
from glmstudio.chat.sampling import PRESETS, Sampling
from glmstudio.errors import StudioError
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state.conversations import CONVERSATIONS, OpenConversation
from glmstudio.ui.state.page_state import ChatState
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
    latest = _latest()
    try:
        return CONVERSATIONS.get(latest) if latest else CONVERSATIONS.blank()
    except StudioError:
        return CONVERSATIONS.blank()


@cached(0.5)
def _latest() -> str:
    """The conversation that was changed last; "" where there is none. Many parts of the page ask in a tick."""
    found = max(history.headings(), key=lambda each: each.changed, default=None)
    return found.id if found else ""


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
