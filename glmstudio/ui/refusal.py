"""The page for whoever opens the studio at an address that it does not answer to: what this is, and the way in."""

from __future__ import annotations

from glmstudio.guard import Refusal
from glmstudio.ui import tunnel
from glmstudio.ui.markup import Safe, prose, tag
from glmstudio.words import LANGUAGES, say

_STYLE = Safe(
    "body{max-width:40rem;margin:3rem auto;padding:0 1rem;font:1rem/1.6 system-ui,sans-serif;color-scheme:light dark}"
    "pre{padding:.8rem;border:1px solid;border-radius:.4rem;overflow-x:auto}section+section{margin-top:3rem}"
)
_TAGS = {"en": "en", "zh": "zh-CN"}


def refusal(port: int) -> Refusal:
    """In both languages, because nothing of such a request is believed, not even its language."""
    page = tag(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>GLM Studio</title>'
        '<meta name="viewport" content="width=device-width"><style>{style}</style></head><body>{parts}</body></html>\n',
        style=_STYLE,
        parts=[_part(lang, port) for lang in LANGUAGES],
    )
    return Refusal("text/html; charset=utf-8", page.encode())


def _part(lang: str, port: int) -> Safe:
    return tag(
        '<section lang="{code}"><h1>{title}</h1><p>{reason}</p><p>{way}</p><pre>{line}</pre><p>{then}</p></section>',
        code=_TAGS[lang],
        title=say(lang, "ui.refused.title"),
        reason=say(lang, "ui.refused.reason"),
        way=prose(say(lang, "ui.refused.way")),
        line=tunnel.line(port),
        then=prose(say(lang, "ui.refused.then", url=f"http://127.0.0.1:{port}/")),
    )
