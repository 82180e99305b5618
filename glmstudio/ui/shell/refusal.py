"""The pages for refused requests: what this is, and how to get in."""

from __future__ import annotations

from glmstudio.access.guard import Refusal
from glmstudio.ui.framework import tunnel
from glmstudio.ui.framework.markup import Html, prose, tag
from glmstudio.words import LANGUAGES, say

_STYLE = Html(
    "body{max-width:40rem;margin:3rem auto;padding:0 1rem;font:1rem/1.6 system-ui,sans-serif;color-scheme:light dark}"
    "pre{padding:.8rem;border:1px solid;border-radius:.4rem;overflow-x:auto}section+section{margin-top:3rem}"
)
_TAGS = {"en": "en", "zh": "zh-CN"}


# Who gets the key in another window, or was led here by a link from elsewhere (with which no cookie is sent), goes on.
_AGAIN = Html(
    '<script>(async function look() { try { if ((await fetch("/health", { cache: "no-store" })).ok)'
    " return location.hash ? location.reload() : location.replace(location.href); } catch {}"
    " setTimeout(look, 2000); })()</script>"
)


def refusal(port: int) -> Refusal:
    """For an address that the studio does not serve."""
    return _page([_foreign(lang, port) for lang in LANGUAGES])


def stranger() -> Refusal:
    """For a request without the key."""
    return _page([*(_unknown(lang) for lang in LANGUAGES), _AGAIN])


def _page(parts: list[Html]) -> Refusal:
    """In all languages, because nothing in such a request is trusted, not even its language."""
    page = tag(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>GLM Studio</title>'
        '<meta name="viewport" content="width=device-width"><style>{style}</style></head><body>{parts}</body></html>\n',
        style=_STYLE,
        parts=parts,
    )
    return Refusal("text/html; charset=utf-8", page.encode())


def _foreign(lang: str, port: int) -> Html:
    return _part(
        lang,
        title=say(lang, "ui.refused.title"),
        reason=say(lang, "ui.refused.reason"),
        way=prose(say(lang, "ui.refused.way")),
        line=tunnel.line(port),
        then=prose(say(lang, "ui.refused.then", url=f"http://127.0.0.1:{port}/")),
    )


def _unknown(lang: str) -> Html:
    return _part(
        lang,
        title=say(lang, "ui.stranger.title"),
        reason=say(lang, "ui.stranger.reason"),
        way=say(lang, "ui.stranger.way"),
        line="python launcher.py",
        then=prose(say(lang, "ui.stranger.then")),
    )


def _part(lang: str, **words: str) -> Html:
    return tag(
        '<section lang="{code}"><h1>{title}</h1><p>{reason}</p><p>{way}</p><pre>{line}</pre><p>{then}</p></section>',
        code=_TAGS[lang],
        **words,
    )
