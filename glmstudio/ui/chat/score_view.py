"""How well the base and the fine-tuned model call tools, in figures and examples of what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glmstudio.chat.tool_score import MOST, Change, ToolCounts, ToolScore, summary
from glmstudio.knowledge.result import FactsScore
from glmstudio.paths import SAMPLE
from glmstudio.rundir.run import Run
from glmstudio.ui.chat.chat_model import chosen_adapter, chosen_model
from glmstudio.ui.chat.facts_score import render_facts_score
from glmstudio.ui.framework.markup import Html, button, chip, fold, problem, progress, tag
from glmstudio.ui.state.background import TASKS, BackgroundTask
from glmstudio.ui.state.page_state import ChatState
from glmstudio.ui.state.score_tasks import KIND, ScoreRequest, start_score
from glmstudio.words import say

_CHAT = "chat"
_FIGURES = ("right_tool", "right_arguments", "no_call", "valid_calls")
_COUNTS = (20, 50, 100, MOST)


def render_score(lang: str, chat: ChatState) -> Html:
    """The score of the model that is chosen in the chat."""
    return render(lang, _CHAT, about=chosen_adapter(chat) or chosen_model(chat))


def act_score(chat: ChatState, data: dict[str, Any]) -> ChatState:
    """Start or stop it."""
    act(_CHAT, chosen_model(chat), chosen_adapter(chat), data)
    return chat


def act(place: str, model: str, adapter: str, data: dict[str, Any]) -> None:
    """Start or stop the score of `place`: the chat, or a run by name."""
    if data.get("act") == "score-stop":
        TASKS.stop(place, KIND)
    elif data.get("act") == "score":
        fields = data.get("fields")
        fields = fields if isinstance(fields, dict) else {}
        asked = str(fields.get("file", "")).strip()
        file = Path(asked).expanduser() if asked else SAMPLE
        count = str(fields.get("count", ""))
        most = int(count) if count in map(str, _COUNTS) else _COUNTS[0]
        start_score(place, ScoreRequest(model, adapter, file, most))


def render(lang: str, place: str, *, about: str, run: Run | None = None) -> Html:
    """Form, progress and result."""
    task = TASKS.get(place, KIND)
    parts: list[Any] = [_form(lang, task, run)]
    if task is not None:
        parts.append(_state(lang, task, run))
    title = say(lang, "ui.score.title", name=about)
    return fold(title, parts, key="score", unfolded=task is not None)


def _form(lang: str, task: BackgroundTask | None, run: Run | None) -> Html:
    going = task is not None and task.running
    name = {"run": run.name} if run else {}
    press = (
        button("score-stop", say(lang, "ui.score.stop"), **name)
        if going
        else button("score", say(lang, "ui.score.start"), look="primary", **name)
    )
    options = [tag('<option value="{n}">{n}</option>', n=count) for count in _COUNTS]
    return tag(
        '<div class="gs-fields gs-one" data-scope><p class="gs-small gs-wide">{text}</p><label class="gs-wide">{file}'
        '<input data-field="file" placeholder="{example}"></label><label>{count}<select data-field="count">{options}'
        "</select></label>{press}</div>",
        text=say(lang, "ui.score.text"),
        file=say(lang, "ui.score.file"),
        example=say(lang, "ui.score.file_example"),
        count=say(lang, "ui.score.count"),
        options=options,
        press=press,
    )


def _state(lang: str, task: BackgroundTask, run: Run | None) -> Html:
    if task.running:
        words = say(lang, "ui.score.going", done=task.done, total=task.total or "…")
        return tag('<div class="gs-stack">{moved}</div>', moved=progress(words, task.done, task.total))
    if task.problem:
        return problem(lang, task.problem)
    if task.result is None:
        return Html("")
    name, result = task.result
    return render_facts_score(lang, name, result) if isinstance(result, FactsScore) else _result(lang, result, run)


def _result(lang: str, result: ToolScore, run: Run | None) -> Html:
    rows = [
        tag(
            '<tr><th scope="row">{label}</th>{cells}</tr>',
            label=say(lang, f"ui.score.{figure}"),
            cells=[
                tag('<td class="gs-number">{share}</td>', share=_share(lang, getattr(each, figure)))
                for each in result.marks
            ],
        )
        for figure in _FIGURES
    ]
    known = run is not None and Path(str(run.settings.get("data") or SAMPLE)).resolve() == Path(result.file).resolve()
    return tag(
        '<div class="gs-wide-table"><table class="gs-table gs-score"><thead><tr><td></td>{heads}</tr></thead>'
        '<tbody>{rows}</tbody></table></div><p class="gs-small">{questions}{learned}</p>{changes}',
        heads=[_head(lang, each, number) for number, each in enumerate(result.marks)],
        rows=rows,
        questions=summary(lang, result),
        learned=" " + say(lang, "ui.score.learned") if known else "",
        changes=[_change(lang, each, number) for number, each in enumerate(result.changes)],
    )


def _head(lang: str, marks: ToolCounts, number: int) -> Html:
    name = say(lang, "ui.chat.base") if number == 0 else marks.model
    return tag('<th>{name}<br><span class="gs-small">{loaded}</span></th>', name=name, loaded=marks.loaded)


def _change(lang: str, change: Change, number: int) -> Html:
    return tag(
        '<div class="gs-change" data-key="change-{number}">{chip}<p class="gs-sample-question">{asked}</p>'
        '<dl class="gs-facts">'
        "<dt>{due_label}</dt><dd>{due}</dd><dt>{before_label}</dt><dd>{before}</dd><dt>{after_label}</dt><dd>{after}</dd>"
        "</dl></div>",
        number=number,
        chip=chip("good" if change.better else "bad", say(lang, f"ui.score.{'better' if change.better else 'worse'}")),
        asked=change.asked,
        due_label=say(lang, "ui.score.due"),
        due=change.due,
        before_label=say(lang, "ui.chat.base"),
        before=change.before or "–",
        after_label=say(lang, "ui.score.tuned"),
        after=change.after or "–",
    )


def _share(lang: str, counts: tuple[int, int]) -> str:
    right, of = counts
    return say(lang, "chat.score.share", right=right, of=of) if of else "–"
