"""The header and the rail: the machine at a glance, and the state of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glmstudio.ui.chat.chat_model import server_state
from glmstudio.ui.doctor.verdict import judge
from glmstudio.ui.framework.icons import LOGO
from glmstudio.ui.framework.markup import Html, bar, chip, icon, problem, tag
from glmstudio.ui.model import model_cards
from glmstudio.ui.runs.runs_view import look, state_words
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.choice import items, model_in_use
from glmstudio.ui.state.page_state import PageState
from glmstudio.ui.state.runwatch import live_run, newest_first
from glmstudio.units import memory
from glmstudio.unread import unread_files
from glmstudio.words import say

_MOST_UNREAD = 3
_KEYS = (
    (("?",), "list"),
    (("Ctrl", "Enter"), "start"),
    (("Enter",), "send"),
    (("Shift", "Enter"), "line"),
    (("Esc",), "stop"),
    (("Tab",), "next"),
)
_LANGUAGE_NAMES = {"zh": "中文", "en": "English"}


@dataclass(frozen=True)
class Step:
    """One step of the rail: its state as a shape (`look`) and in words."""

    name: str
    look: str
    words: str


def steps(lang: str) -> tuple[Step, ...]:
    """The four steps as they are now."""
    return (_doctor(lang), _model(lang), _finetune(lang), _chat(lang))


def landing(found: tuple[Step, ...]) -> str:
    """Where a new page opens: the run in progress, or else the first step that is not ready."""
    if found[2].look == "running":
        return "finetune"
    return next((step.name for step in found if step.look != "good"), "chat")


def redraw(state: PageState, _data: dict[str, Any]) -> PageState:
    """Only refresh: a language was chosen, which stands in a cookie, or a step was opened."""
    return state


def render_header(lang: str, _state: PageState) -> Html:
    """Name, machine, language, light and dark."""
    languages = [
        tag(
            '<button type="button" data-act="lang" data-lang="{code}" lang="{code}" aria-pressed="{on}">{name}'
            "</button>",
            code=code,
            on="true" if code == lang else "false",
            name=name,
        )
        for code, name in _LANGUAGE_NAMES.items()
    ]
    return tag(
        '<a class="gs-skip" href="#step-doctor" data-skip>{skip}</a>'
        '<header class="gs-header"><h1 class="gs-name">{logo}GLM Studio</h1><div class="gs-machine">{machine}</div>'
        '<div class="gs-switches"><span class="gs-segment" role="group" aria-label="{language}">{languages}</span>'
        '<button type="button" class="gs-iconbutton" data-list-keys aria-label="{keys}" title="{keys}">'
        '<span aria-hidden="true">?</span></button>{listed}'
        '<button type="button" class="gs-iconbutton" data-theme-toggle aria-label="{look}" title="{look}">'
        '<span class="gs-when-light">{moon}</span><span class="gs-when-dark">{sun}</span></button></div></header>'
        '<p class="gs-lost" role="alert"><span>{lost}</span><span class="gs-anew">{renewed}</span></p>',
        skip=say(lang, "ui.frame.skip"),
        keys=say(lang, "ui.frame.keys"),
        listed=_keys(lang),
        lost=say(lang, "ui.frame.lost"),
        renewed=say(lang, "ui.frame.renewed"),
        logo=Html(LOGO),
        machine=_machine(lang),
        language=say(lang, "ui.frame.language"),
        languages=languages,
        look=say(lang, "ui.frame.look"),
        moon=icon("moon"),
        sun=icon("sun"),
    )


def _keys(lang: str) -> Html:
    """What the keyboard does, for the dialog that `?` opens."""
    return tag(
        '<template data-keys><h2 id="gs-keys-title">{title}</h2><dl>{rows}</dl>'
        '<div><button type="button" class="gs-button gs-look-primary" autofocus>{close}</button></div></template>',
        title=say(lang, "ui.frame.keys"),
        rows=[
            tag(
                "<dt>{keys}</dt><dd>{does}</dd>",
                keys=[tag("<kbd>{key}</kbd>", key=key) for key in keys],
                does=say(lang, f"ui.frame.key_{does}"),
            )
            for keys, does in _KEYS
        ],
        close=say(lang, "ui.frame.close"),
    )


def render_rail(lang: str, _state: PageState) -> Html:
    """The four steps as buttons, each with its state."""
    found = steps(lang)
    mark, news = _news(lang)
    buttons = [
        tag(
            '<button type="button" data-go="{name}" data-key="{name}">{icon}<b>{title}</b>{chip}</button>',
            name=step.name,
            icon=icon(step.name),
            title=say(lang, f"ui.frame.{step.name}"),
            chip=chip(step.look, step.words),
        )
        for step in found
    ]
    return tag(
        '<nav class="gs-rail" aria-label="{label}" data-landing="{landing}" data-lang="{lang}" data-busy="{busy}"'
        ' data-news="{mark}" data-news-text="{news}"><h2 class="gs-unseen">{label}</h2>{buttons}</nav>',
        busy=found[2].words if found[2].look == "running" else "",
        mark=mark,
        news=news,
        label=say(lang, "ui.frame.steps"),
        landing=landing(found),
        lang=lang,
        buttons=buttons,
    )


def render_notice(lang: str, state: PageState) -> Html:
    """The last error that no step shows itself, and files of the studio that cannot be read."""
    found = [problem(lang, state.problem)] if state.problem else []
    found += [problem(lang, error, kind="attention") for error in unread_files()[:_MOST_UNREAD]]
    return tag('<div class="gs-notice">{found}</div>', found=found) if found else Html("")


def _machine(lang: str) -> list[Html]:
    if CHECKUP.state.report is None:
        return [tag("<span>{text}</span>", text=say(lang, "ui.frame.looking"))]
    gpus = CHECKUP.gpus()
    if not gpus:
        return [tag("<span>{icon}{text}</span>", icon=icon("chip"), text=say(lang, "ui.frame.cpu_only"))]
    return [
        tag(
            '<span title="{name}">GPU {index}{bar}<span class="gs-number">{figures}</span></span>',
            name=gpu.name,
            index=gpu.index,
            bar=bar(1 - gpu.free_mib / max(1, gpu.total_mib), label=f"GPU {gpu.index} · {gpu.name}"),
            figures=f"{memory(gpu.total_mib - gpu.free_mib)} / {memory(gpu.total_mib)}",
        )
        for gpu in gpus
    ]


def _news(lang: str) -> tuple[str, str]:
    """The run that ended last, as an id that differs for each end, and in words: the browser notifies once."""
    ended = [known for known in newest_first() if known.state.ended and not known.state.live]
    last = max(ended, key=lambda known: known.state.ended or 0.0, default=None)
    if last is None:
        return "", ""
    return f"{last.name}:{last.state.ended}", say(lang, f"ui.run.news_{last.state.state}", name=last.name)


def _doctor(lang: str) -> Step:
    now = CHECKUP.state
    if now.running:
        return Step("doctor", "running", say(lang, "ui.frame.checking"))
    if now.report is None or now.failed:
        return Step("doctor", "waiting", say(lang, "ui.frame.not_yet"))
    verdict = judge(now.report)
    return Step("doctor", "good" if verdict.look == "good" else "attention", verdict.words(lang))


def _model(lang: str) -> Step:
    busy = next((item for item in items() if item.job and item.job.live), None)
    if busy:
        return Step("model", "running", model_cards.state_words(lang, busy))
    used = model_in_use()
    if used is None or not used.ready:
        return Step("model", "attention", say(lang, "ui.frame.needs_you"))
    return Step("model", "good", say(lang, "ui.frame.model_in_use", name=used.title))


def _finetune(lang: str) -> Step:
    """The run in progress or else the newest one, in the words of its row."""
    runs = newest_first()
    known = live_run() or next((each for each in runs if each.begun or each.state.live), None)
    if known is None:
        return Step("finetune", "waiting", say(lang, "ui.frame.not_yet"))
    if known.state.live or known.state.state in ("failed", "lost"):
        return Step("finetune", look(known), state_words(lang, known))
    ready = any(each.has_result for each in runs)
    return Step("finetune", "good" if ready else look(known), state_words(lang, known))


def _chat(lang: str) -> Step:
    state = server_state().state
    look = {"ready": "good", "loading": "running", "failed": "attention"}.get(state, "waiting")
    key = {"ready": "ready", "loading": "loading", "failed": "needs_you"}.get(state, "not_yet")
    return Step("chat", look, say(lang, f"ui.frame.{key}"))
