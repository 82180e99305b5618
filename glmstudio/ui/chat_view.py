"""The conversation as HTML. What a model wrote is text: it is escaped, and only code and bold words are set apart."""

from __future__ import annotations

import json
import re

from glmstudio.chat.tools import TOOLS
from glmstudio.ui.conversation import Call, Conversation, Turn
from glmstudio.ui.markup import Safe, button, chip, empty, icon, join, problem, tag
from glmstudio.words import say

EXAMPLES = 4
_FENCE = re.compile(r"```[^\n`]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")


def render_log(lang: str, conversation: Conversation, *, ready: bool, tuned: bool = False) -> Safe:
    """The whole conversation, or what to do before there is one."""
    turns = conversation.turns
    if not turns:
        body: Safe = _nothing_yet(lang, ready=ready, tuned=tuned)
    else:
        last = len(turns) - 1
        body = join(
            _turn(lang, index, turn, going=conversation.busy and index == last) for index, turn in enumerate(turns)
        )
    return tag(
        '<div class="gs-chatlog" data-scroll role="log" aria-live="polite" aria-label="{label}" tabindex="0">{body}'
        "</div>",
        label=say(lang, "ui.chat.log"),
        body=body,
    )


def formatted(text: str) -> Safe:
    """Model text with its code and bold words set apart; everything else stays as it was written."""
    parts: list[Safe] = []
    at = 0
    for fence in _FENCE.finditer(text):
        parts.append(_paragraphs(text[at : fence.start()]))
        if code := fence.group(1).strip("\n"):
            parts.append(tag("<pre>{code}</pre>", code=code))
        at = fence.end()
    parts.append(_paragraphs(text[at:]))
    return join(parts)


def _paragraphs(text: str) -> Safe:
    blocks = [block for block in re.split(r"\n\s*\n", text) if block.strip()]
    return join(tag("<p>{inner}</p>", inner=_inline(block.strip("\n"))) for block in blocks)


def _inline(text: str) -> Safe:
    pieces = _INLINE.split(text)
    return join(
        tag("<code>{code}</code>", code=piece) if index % 2 else _bold(piece) for index, piece in enumerate(pieces)
    )


def _bold(text: str) -> Safe:
    pieces = _BOLD.split(text)
    return join(
        tag("<strong>{word}</strong>", word=piece) if index % 2 else piece for index, piece in enumerate(pieces)
    )


def _nothing_yet(lang: str, *, ready: bool, tuned: bool) -> Safe:
    if not ready:
        return empty(say(lang, "ui.chat.load_first"), say(lang, "ui.chat.load_first_text"), icon_name="chat")
    # What the shipped sample teaches comes first where a fine-tuned model is loaded.
    numbers = ([EXAMPLES + 1] if tuned else []) + list(range(1, EXAMPLES + 1))
    questions = [say(lang, f"ui.chat.example_{number}") for number in numbers]
    examples = tag(
        '<div class="gs-examples">{buttons}</div>',
        buttons=[button("ask", question, question=question) for question in questions],
    )
    return empty(say(lang, "ui.chat.empty"), say(lang, "ui.chat.empty_text"), icon_name="chat", action=examples)


def _turn(lang: str, index: int, turn: Turn, *, going: bool) -> Safe:
    parts = [tag('<div class="gs-said gs-user" data-key="q{index}">{text}</div>', index=index, text=turn.question)]
    last = len(turn.parts) - 1
    for number, part in enumerate(turn.parts):
        key = f"t{index}-{number}"
        if isinstance(part, Call):
            parts.append(_call(lang, key, part))
        elif part.strip():
            caret = " gs-caret" if going and number == last else ""
            parts.append(
                tag(
                    '<div class="gs-said gs-model-says{caret}" data-key="{key}">{text}</div>',
                    caret=caret,
                    key=key,
                    text=formatted(part),
                )
            )
    if going and (not turn.parts or isinstance(turn.parts[-1], Call)):
        thinking = chip("running", say(lang, "ui.chat.thinking"))
        parts.append(tag('<div data-key="w{index}">{thinking}</div>', index=index, thinking=thinking))
    if not going:
        parts.append(_foot(lang, index, turn))
    return join(parts)


def _foot(lang: str, index: int, turn: Turn) -> Safe:
    if turn.problem:
        return tag('<div data-key="f{index}">{problem}</div>', index=index, problem=problem(lang, turn.problem))
    said = [say(lang, f"ui.chat.ended_{turn.reason}")] if turn.reason in {"cancelled", "length", "rounds"} else []
    if turn.tokens is not None and turn.seconds is not None:
        said.append(say(lang, "ui.chat.foot", tokens=turn.tokens, seconds=f"{turn.seconds:.1f}"))
    return tag('<p class="gs-foot gs-number" data-key="f{index}">{said}</p>', index=index, said=" · ".join(said))


def _call(lang: str, key: str, call: Call) -> Safe:
    title = TOOLS[call.name].title(lang) if call.name in TOOLS else call.name
    if call.content is None:
        state = chip("running", say(lang, "ui.chat.call_running"))
    elif call.failed:
        state = chip("bad", say(lang, "ui.chat.call_failed"))
    else:
        state = chip("good", say(lang, "ui.chat.call_done", seconds=f"{call.seconds:.2f}"))
    rows = [
        _fact(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in call.arguments.items()
    ]
    if call.content is not None:
        rows.append(_fact(say(lang, "ui.chat.call_result"), call.content))
    return tag(
        '<div class="gs-call{bad}" data-key="{key}"><div class="gs-row">{icon}<b>{title}</b>{state}</div>'
        '<dl class="gs-facts">{rows}</dl></div>',
        bad=" gs-bad" if call.failed else "",
        key=key,
        icon=icon("tool"),
        title=title,
        state=state,
        rows=rows,
    )


def _fact(name: str, value: str) -> Safe:
    return tag("<dt>{name}</dt><dd>{value}</dd>", name=name, value=value)
