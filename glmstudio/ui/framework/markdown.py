"""Model text as HTML: markdown in which HTML, links and pictures stay text."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from typing import Any

from markdown_it import MarkdownIt

from glmstudio.ui.framework.markup import Html, tag, without_marks
from glmstudio.words import say

LONGEST = 200_000  # characters; more is shown as it is
# A picture would be fetched from where the model says, and a link would carry away what stands in it; both stay text.
_OFF = ["html_block", "html_inline", "image", "link", "autolink", "reference", "entity"]


@lru_cache(maxsize=512)
def formatted(lang: str, text: str) -> Html:
    """The text with headings, lists, tables and code set, each piece of code with a button that copies it."""
    if len(text) > LONGEST:
        return tag("<pre>{text}</pre>", text=text)
    return without_marks(_READER.render(text, {"lang": lang}))


def _code(_renderer: Any, tokens: Sequence[Any], index: int, _options: Any, env: MutableMapping[str, Any]) -> str:
    made = tag(
        '<div class="gs-code"><pre><code>{code}</code></pre><button type="button" class="gs-button gs-look-quiet"'
        ' data-copy data-done="{done}">{label}</button></div>',
        code=tokens[index].content,
        done=say(env["lang"], "ui.common.copied"),
        label=say(env["lang"], "ui.common.copy"),
    )
    return str(made)  # the reader joins plain text, which would escape what stands before it


_READER = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable(_OFF)
for _rule in ("fence", "code_block"):
    _READER.add_render_rule(_rule, _code)
