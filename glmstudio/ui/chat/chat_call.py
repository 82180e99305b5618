"""The card of a tool call, and the buttons of one that waits for approval."""

from __future__ import annotations

import json
from typing import Any

from glmstudio.chat.conversation import Call
from glmstudio.errors import StudioError
from glmstudio.tools.toolbox import toolbox
from glmstudio.ui.framework.markup import Html, button, chip, icon, problem, tag
from glmstudio.words import say

_LOOKS = {
    "asked": "attention",
    "running": "running",
    "done": "good",
    "failed": "bad",
    "wrong": "bad",
    "refused": "waiting",
    "answered": "note",
}


def render_call(lang: str, key: str, call: Call) -> Html:
    """The card of a call: tool, arguments, approval, result, duration."""
    tool = toolbox().tools.get(call.name)
    rows = [_fact(name or say(lang, "ui.chat.call_written"), _shown(value)) for name, value in call.arguments.items()]
    if call.content is not None:
        rows.append(_fact(say(lang, "ui.chat.call_result"), call.content))
    name = tool.title(lang) if tool else call.name
    waits = tag(
        ' tabindex="-1" role="group" aria-label="{name}: {ask}"', name=name, ask=say(lang, "ui.chat.call_asked")
    )
    return tag(
        '<div class="gs-call gs-{look}" data-key="{key}"{waits}><div class="gs-row">{icon}<b>{title}</b>{state}</div>'
        '<dl class="gs-facts">{rows}</dl>{stopped}{choice}</div>',
        look=_LOOKS.get(call.state, "waiting"),
        key=key,
        icon=icon("tool"),
        waits=waits if call.state == "asked" else "",
        title=name,
        state=chip(
            _LOOKS.get(call.state, "waiting"),
            say(
                lang, f"ui.chat.call_{call.state if call.state in _LOOKS else 'failed'}", seconds=f"{call.seconds:.2f}"
            ),
        ),
        rows=rows,
        stopped=problem(lang, call.stopped) if isinstance(call.stopped, StudioError) else "",
        choice=_choice(lang, call) if call.state == "asked" else "",
    )


def _choice(lang: str, call: Call) -> Html:
    """The buttons that allow or refuse the call, or answer in its place."""
    return tag(
        '<div class="gs-allow gs-stack" data-scope><div class="gs-row">{run}{always}{refuse}</div>'
        '<label>{label}<textarea data-field="text" rows="2"></textarea></label>'
        '<div class="gs-row">{answer}</div></div>',
        run=button("run", say(lang, "ui.chat.allow"), look="primary", call=call.id),
        always=button("always", say(lang, "ui.chat.allow_always"), call=call.id, tool=call.name),
        refuse=button("refuse", say(lang, "ui.chat.refuse"), look="danger", call=call.id),
        label=say(lang, "ui.chat.by_hand"),
        answer=button("answer", say(lang, "ui.chat.by_hand_send"), call=call.id),
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fact(name: str, value: str) -> Html:
    return tag("<dt>{name}</dt><dd>{value}</dd>", name=name, value=value)
