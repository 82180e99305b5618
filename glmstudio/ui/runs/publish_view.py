"""Publishing at a hub, from the page: what, where, and for whom; a second click sends it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from glmstudio.models.hub.hubs import TITLES
from glmstudio.models.hub.upload import HUBS
from glmstudio.rundir.run import Run
from glmstudio.runs.publishing.publish_run import Publication, checked, publish_run, publishable
from glmstudio.ui.framework.markup import Html, busy, button, copyable, fold, good, problem, tag, terminal
from glmstudio.ui.state.background import TASKS
from glmstudio.ui.state.page_state import RunsState
from glmstudio.ui.state.runwatch import RunSnapshot
from glmstudio.words import say

_KIND = "publish"
_LONGEST = 200  # characters of a name that was typed


def render(lang: str, known: RunSnapshot, state: RunsState) -> Html:
    """The form; what was asked for and waits for the second click; how it goes."""
    task = TASKS.get(known.name, _KIND)
    asked = state.publication if state.publishing == known.name else None
    parts: list[Html] = [tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.publish.text"))]
    if task is not None and task.running:
        parts.append(busy(say(lang, "ui.publish.going")))
        parts.append(tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.publish.going")))
    elif asked is not None:
        parts.append(_question(lang, known, asked))
    else:
        parts.append(_form(lang, known))
    if task is not None and task.problem:
        parts.append(problem(lang, task.problem))
    if task is not None and task.result:
        parts.append(good(say(lang, "ui.publish.done")))
        parts.append(copyable(lang, str(task.result), key="published"))
    body = tag('<div class="gs-stack">{parts}</div>', parts=parts)
    return fold(say(lang, "ui.publish.title"), body, key="publish", unfolded=task is not None or asked is not None)


def act(state: RunsState, run: Run, data: dict[str, Any]) -> RunsState:
    """Take what was typed, send it, or forget it. Raises StudioError for what cannot be published."""
    state = replace(state, run=run.name)
    if data.get("act") == "publish-ask":
        return replace(state, publishing=run.name, publication=checked(run, _typed(data)))
    asked = state.publication if state.publishing == run.name else None
    if data.get("act") == "publish" and asked is not None:
        TASKS.start(run.name, _KIND, lambda _: publish_run(run, asked))
    return replace(state, publishing="", publication=None)


def _typed(data: dict[str, Any]) -> Publication:
    fields = data.get("fields")
    told = {str(name): str(value)[:_LONGEST] for name, value in fields.items()} if isinstance(fields, dict) else {}
    # Whatever the browser says, only the one word makes it public.
    private = told.get("seen") != "public"
    return Publication(told.get("hub", ""), told.get("repo", ""), told.get("form", ""), private)


def _form(lang: str, known: RunSnapshot) -> Html:
    forms = [(form, say(lang, f"ui.run.export_{form}")) for form in publishable(known.run)]
    seen = [(name, say(lang, f"ui.publish.{name}")) for name in ("private", "public")]
    command = ["python", "launcher.py", "runs", "publish", known.name, "--to", HUBS[0], "--repo", "OWNER/NAME"]
    return tag(
        '<div data-scope class="gs-stack"><div class="gs-fields"><label>{hub}{hubs}</label>'
        '<label>{repo}<input type="text" data-field="repo" placeholder="{example}" autocomplete="off"'
        ' spellcheck="false"></label><label>{form}{forms}</label><label>{who}{seen}</label></div>'
        '<div class="gs-row">{button}</div></div>{command}',
        hub=say(lang, "ui.publish.hub"),
        hubs=_select("hub", [(name, TITLES[name]) for name in HUBS]),
        repo=say(lang, "ui.publish.repo"),
        example=say(lang, "ui.publish.repo_example"),
        form=say(lang, "ui.publish.form"),
        forms=_select("form", forms),
        who=say(lang, "ui.publish.seen"),
        seen=_select("seen", seen),
        button=button("publish-ask", say(lang, "ui.publish.ask"), run=known.name),
        command=terminal(lang, shlex.join(command), key="publish"),
    )


def _question(lang: str, known: RunSnapshot, asked: Publication) -> Html:
    """What is about to happen, and the two answers."""
    who = "private" if asked.private else "public"
    text = say(
        lang,
        f"ui.publish.confirm_{who}",
        name=known.name,
        form=say(lang, f"ui.run.export_{asked.form}"),
        hub=TITLES[asked.hub],
        repo=asked.repo,
    )
    return tag(
        '<div class="gs-problem gs-attention" role="status"><div><strong>{text}</strong><p>{sent}</p>'
        '<div class="gs-row">{buttons}</div></div></div>',
        text=text,
        sent=say(lang, "ui.publish.sent"),
        buttons=[
            button("publish", say(lang, f"ui.publish.go_{who}"), look="primary", run=known.name),
            button("publish-drop", say(lang, "ui.publish.drop"), look="quiet", run=known.name),
        ],
    )


def _select(name: str, choices: list[tuple[str, str]]) -> Html:
    options = [tag('<option value="{value}">{text}</option>', value=value, text=text) for value, text in choices]
    return tag('<select data-field="{name}">{options}</select>', name=name, options=options)
