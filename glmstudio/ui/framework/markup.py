"""Small pieces of HTML. Whatever is put into a template is escaped, unless another template made it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import markupsafe

from glmstudio import __version__
from glmstudio.ui.framework.icons import ICONS
from glmstudio.words import say

Html = markupsafe.Markup  # what a template of this project made
# gradio reads its own templates with `${...}` and `{{...}}`; text from outside must never look like one.
_TEMPLATE_MARKS = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})
_CODE = re.compile(r"`([^`\n]+)`")


def tag(template: str, /, **values: Any) -> Html:
    """`template` filled in by `str.format`; every value is escaped; `Html` and lists of it are kept."""
    return Html(template.format(**{name: _filled(value) for name, value in values.items()}))


def escape(value: Any) -> Html:
    """Text as HTML, with nothing left in it that a browser or a template engine would read."""
    return Html(markupsafe.escape(str(value)).translate(_TEMPLATE_MARKS))


def without_marks(html: str) -> Html:
    """HTML that a library made of escaped text, with nothing left in it that a template engine would read."""
    return Html(html.translate(_TEMPLATE_MARKS))


def join(parts: Iterable[Any]) -> Html:
    """Several pieces as one."""
    return Html("").join(map(_filled, parts))


def _filled(value: Any) -> Html:
    if value is None:
        return Html("")
    if isinstance(value, Html):
        return value
    return join(value) if isinstance(value, (list, tuple)) else escape(value)


def prose(text: str) -> Html:
    """A sentence as HTML, with what stands between backticks as code."""
    pieces = _CODE.split(text)
    return join(tag("<code>{code}</code>", code=piece) if index % 2 else piece for index, piece in enumerate(pieces))


def commands(lang: str, text: str, *, key: str) -> Html:
    """The commands that a sentence names between backticks, each with a button that copies it."""
    found = [piece for piece in _CODE.findall(text) if " " in piece]
    return join(copyable(lang, command, key=f"{key}-{index}") for index, command in enumerate(found))


def icon(name: str) -> Html:
    """An icon, hidden from screen readers: words stand beside it."""
    return Html(
        '<svg class="gs-icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false">'
        f"{ICONS[name]}</svg>"
    )


def chip(kind: str, text: Any) -> Html:
    """A state in words and a shape: `kind` is good, note, attention, bad, running or waiting."""
    return tag(
        '<span class="gs-chip gs-{kind}">{icon}<span>{text}</span></span>', kind=kind, icon=icon(kind), text=text
    )


def bar(fraction: float, *, label: str, kind: str = "running") -> Html:
    """A progress or memory bar; `label` is what a screen reader says."""
    share = max(0.0, min(1.0, fraction)) * 100
    return tag(
        '<div class="gs-bar gs-{kind}" role="meter" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{now}"'
        ' aria-label="{label}"><i style="width:{share}%"></i></div>',
        kind=kind,
        now=round(share),
        label=label,
        share=f"{share:.2f}",
    )


def progress(words: str, done: int, total: int, *, beside: Any = "") -> Html:
    """Progress in words and as a bar, with a text beside it."""
    return tag(
        '<div class="gs-row gs-spread">{chip}<span class="gs-small">{beside}</span></div>{bar}',
        chip=chip("running", words),
        beside=beside,
        bar=bar(done / total if total else 0.0, label=words),
    )


def busy(label: str) -> Html:
    """A bar for work of unknown length."""
    return tag('<div class="gs-bar gs-busy" role="progressbar" aria-label="{label}"><i></i></div>', label=label)


def button(act: str, label: Any, *, look: str = "plain", **data: Any) -> Html:
    """A button that sends `act` and `data` to its panel's handler; `look` is primary, plain, quiet or danger."""
    marks = [tag(' data-{name}="{value}"', name=name.replace("_", "-"), value=value) for name, value in data.items()]
    return tag(
        '<button type="button" class="gs-button gs-look-{look}" data-act="{act}"{marks}>{label}</button>',
        look=look,
        act=act,
        marks=marks,
        label=label,
    )


def go(step: str, label: Any, *, look: str = "primary") -> Html:
    """A button that opens another step of the rail."""
    return tag(
        '<button type="button" class="gs-button gs-look-{look}" data-go="{step}">{label}</button>',
        look=look,
        step=step,
        label=label,
    )


def fold(summary: Any, body: Any, *, key: str, unfolded: bool = False) -> Html:
    """Details that stay folded until asked for."""
    return tag(
        '<details class="gs-fold" data-key="{key}"{open}><summary>{summary}</summary><div class="gs-folded">{body}'
        "</div></details>",
        key=key,
        open=Html(" open") if unfolded else "",
        summary=summary,
        body=body,
    )


def copyable(lang: str, text: str, *, key: str) -> Html:
    """A command or path with a button that copies it."""
    return tag(
        '<div class="gs-copy" data-key="{key}"><code>{text}</code>'
        '<button type="button" class="gs-button gs-look-quiet" data-copy data-done="{done}">{label}</button></div>',
        key=key,
        text=text,
        done=say(lang, "ui.common.copied"),
        label=say(lang, "ui.common.copy"),
    )


def terminal(lang: str, *commands: str, key: str) -> Html:
    """The same action as a command, one click away."""
    body = [copyable(lang, command, key=f"{key}-{index}") for index, command in enumerate(commands)]
    return fold([icon("terminal"), say(lang, "ui.common.terminal")], body, key=f"terminal-{key}")


def problem(lang: str, error: Any, *, kind: str = "bad") -> Html:
    """A `StudioError`: what happened and what helps, with a button that copies both."""
    what, fix = error.what(lang), error.fix(lang, page=True)
    details = tag(
        '<div class="gs-details"><pre hidden>{text}</pre>'
        '<button type="button" class="gs-button gs-look-quiet" data-copy data-done="{done}">{label}</button></div>',
        text=f"GLM Studio {__version__}: {error.key}: {error}",
        done=say(lang, "ui.common.copied"),
        label=say(lang, "ui.common.copy_details"),
    )
    return tag(
        '<div class="gs-problem gs-{kind}" role="alert">{icon}<div><strong>{what}</strong>{fix}{details}</div></div>',
        kind=kind,
        details=details if kind == "bad" else "",
        icon=icon(kind),
        what=prose(what),
        fix=tag("<p>{fix}</p>", fix=prose(fix)) if fix else "",
    )


def good(text: Any, actions: Iterable[Any] = ()) -> Html:
    """What went well, with the buttons of what can be done next."""
    return tag(
        '<div class="gs-problem gs-good" role="status">{icon}<div><strong>{text}</strong>{actions}</div></div>',
        icon=icon("good"),
        text=text,
        actions=[tag('<div class="gs-row">{made}</div>', made=made) for made in [list(actions)] if made],
    )


def empty(title: Any, text: Any, *, icon_name: str, action: Any = "") -> Html:
    """An empty state: what belongs here, and what to do next."""
    return tag(
        '<div class="gs-empty">{icon}<h3>{title}</h3><p>{text}</p>{action}</div>',
        icon=icon(icon_name),
        title=title,
        text=text,
        action=action,
    )
