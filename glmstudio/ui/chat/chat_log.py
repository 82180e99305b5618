"""The conversation as HTML: questions, answers side by side where two models were asked, and a card for each call."""

from __future__ import annotations

from typing import Any

from glmstudio.chat.conversation import Answer, Call, Turn
from glmstudio.chat.model_server import LoadedModel
from glmstudio.chat.training_examples import DEFAULT, data_sets, lines
from glmstudio.families.glm_z1 import thought_and_answer
from glmstudio.ui.chat.chat_call import render_call
from glmstudio.ui.framework.markdown import formatted
from glmstudio.ui.framework.markup import Html, button, chip, join, problem, tag
from glmstudio.ui.state.conversations import OpenConversation, WaitingQuestion
from glmstudio.ui.state.page_state import ChatState
from glmstudio.words import say


def render_log(
    lang: str, chat: ChatState, opened: OpenConversation, loaded: dict[str, LoadedModel], nothing: Html | str = ""
) -> Html:
    """The shown branch, or `nothing` before there is one. `loaded` is what the model server serves."""
    turns = opened.conversation.branch()
    body: Any = nothing
    if turns:
        body = [_turn(lang, chat, opened, turn, loaded, last=turn is turns[-1]) for turn in turns]
        body += [_queued(lang, each) for each in [*opened.waiting]]
    return tag(
        '<div class="gs-chatlog" data-scroll role="log" aria-live="polite" aria-label="{label}" tabindex="0">{body}'
        "</div>",
        label=say(lang, "ui.chat.log"),
        body=body,
    )


def named(lang: str, model: str) -> str:
    """The display name of an adapter, or of the base."""
    return model.rsplit("/runs/", 1)[-1].replace("/", " · ") if model else say(lang, "ui.chat.base")


def _turn(
    lang: str, chat: ChatState, opened: OpenConversation, turn: Turn, loaded: dict[str, LoadedModel], *, last: bool
) -> Html:
    columns = [
        _answer(lang, opened, turn, side, loaded, compared=len(turn.answers) > 1) for side in range(len(turn.answers))
    ]
    body = join(columns)
    if len(columns) > 1:
        body = tag('<div class="gs-columns" data-key="c{id}">{columns}</div>', id=turn.id, columns=columns)
    return tag(
        "{question}{body}{after}",
        question=_question(lang, chat, opened, turn),
        body=body,
        after="" if opened.busy else _after(lang, chat, opened, turn, last=last),
    )


def _question(lang: str, chat: ChatState, opened: OpenConversation, turn: Turn) -> Html:
    if chat.edited == turn.id:
        return tag(
            '<div class="gs-edit" data-scope data-key="e{id}"><textarea data-field="question" rows="3"'
            ' aria-label="{label}">{text}</textarea><div class="gs-row">{send}{leave}</div></div>',
            id=turn.id,
            label=say(lang, "ui.chat.question"),
            text=turn.question,
            send=button("edit-send", say(lang, "ui.chat.send"), look="primary", turn=turn.id),
            leave=button("leave", say(lang, "ui.chat.leave"), look="quiet"),
        )
    siblings = opened.conversation.siblings(turn)
    place = siblings.index(turn)
    steps: list[Any] = []
    if len(siblings) > 1 and not opened.busy:
        near = {-1: say(lang, "ui.chat.branch_before"), 1: say(lang, "ui.chat.branch_after")}
        for way, sign in ((-1, "‹"), (1, "›")):
            if 0 <= place + way < len(siblings):
                steps.append(_step(siblings[place + way].id, sign, near[way]))
            if way < 0:
                steps.append(tag('<span class="gs-number">{at}/{of}</span>', at=place + 1, of=len(siblings)))
    if not opened.busy:
        steps.append(button("edit", say(lang, "ui.chat.edit"), look="quiet", turn=turn.id))
    return tag(
        '<div class="gs-asked" data-key="q{id}"><div class="gs-said gs-user">{text}</div>'
        '<div class="gs-steps">{steps}</div></div>',
        id=turn.id,
        text=turn.question,
        steps=steps,
    )


def _queued(lang: str, waiting: WaitingQuestion) -> Html:
    """A question that is asked once the answer before it is there."""
    return tag(
        '<div class="gs-asked gs-queued" data-key="w{mark}"><div class="gs-said gs-user">{text}</div>'
        '<div class="gs-steps">{state}{back}</div></div>',
        mark=waiting.mark,
        text=waiting.question,
        state=chip("waiting", say(lang, "ui.chat.queued")),
        back=button("take-back", say(lang, "ui.chat.take_back"), look="quiet", mark=waiting.mark),
    )


def _step(turn: str, sign: str, label: str) -> Html:
    return tag(
        '<button type="button" class="gs-button gs-look-quiet" data-act="look" data-turn="{turn}" aria-label="{label}"'
        ' title="{label}">{sign}</button>',
        turn=turn,
        sign=sign,
        label=label,
    )


def _answer(
    lang: str, opened: OpenConversation, turn: Turn, side: int, loaded: dict[str, LoadedModel], *, compared: bool
) -> Html:
    answer, key = turn.answers[side], f"{turn.id}-{side}"
    going = opened.is_going(answer)
    parts: list[Html] = [_head(lang, answer)] if compared else []
    for number, part in enumerate(answer.parts):
        if isinstance(part, Call):
            parts.append(render_call(lang, f"t{key}-{number}", part))
        elif part.strip():
            caret = " gs-caret" if going and number == len(answer.parts) - 1 else ""
            thought, said = thought_and_answer(part.strip())
            if thought:
                parts.append(_thought(lang, f"h{key}-{number}", thought))
            if not said:
                continue
            parts.append(
                tag(
                    '<div class="gs-said gs-model-says{caret}" data-key="t{key}-{number}">{text}</div>',
                    caret=caret,
                    key=key,
                    number=number,
                    text=formatted(lang, said),
                )
            )
    if going:
        parts.append(_state(lang, opened, answer, key))
    else:
        parts.append(_foot(lang, answer, key, loaded))
    if not compared:
        return join(parts)
    return tag('<section class="gs-column" data-key="a{key}">{parts}</section>', key=key, parts=parts)


def _thought(lang: str, key: str, thought: str) -> Html:
    """What a model thought before it answered, folded."""
    return tag(
        '<details class="gs-thought" data-key="{key}"><summary>{title}</summary><div>{text}</div></details>',
        key=key,
        title=say(lang, "ui.chat.thought"),
        text=thought,
    )


def _head(lang: str, answer: Answer) -> Html:
    """The model of a column, by what is really loaded under that name."""
    return tag(
        '<header><b>{name}</b><span class="gs-small">{about}</span></header>',
        name=named(lang, answer.model),
        about=_described(lang, answer),
    )


def _described(lang: str, answer: Answer) -> str:
    """What the server said of the model that answered, if the fingerprint of its tensors matches."""
    try:
        found = LoadedModel(**answer.about)
        return about(lang, found) if found.fingerprint == answer.loaded else answer.loaded
    except (KeyError, TypeError, ValueError):  # an imported conversation may say anything
        return answer.loaded


def about(lang: str, loaded: LoadedModel) -> str:
    """What the model server says of the tensors in use: the kind, their hash and norm."""
    return say(
        lang,
        f"ui.chat.loaded_{loaded.kind}",
        size=loaded.size,
        hash=loaded.sha256[:8],
        norm=f"{loaded.norm:.3g}",
    )


def _state(lang: str, opened: OpenConversation, answer: Answer, key: str) -> Html:
    last = answer.parts[-1] if answer.parts else None
    if (before := opened.before.get(id(answer))) is not None:
        words = chip("waiting", say(lang, "ui.chat.waiting", before=before))
    elif isinstance(last, Call) and last.state == "asked":
        words = chip("attention", say(lang, "ui.chat.needs_you"))
    elif last is None or isinstance(last, Call):
        words = chip("running", say(lang, "ui.chat.thinking"))
    else:
        return Html("")
    return tag('<div data-key="w{key}">{words}</div>', key=key, words=words)


def _foot(lang: str, answer: Answer, key: str, loaded: dict[str, LoadedModel]) -> Html:
    if answer.problem:
        return tag('<div data-key="f{key}">{problem}</div>', key=key, problem=problem(lang, answer.problem))
    said = [say(lang, f"ui.chat.ended_{answer.reason or 'broken'}")] if answer.reason != "stop" else []
    if answer.tokens and answer.seconds:
        said.append(
            say(
                lang,
                "ui.chat.foot",
                tokens=answer.tokens,
                speed=f"{answer.tokens / answer.seconds:.1f}",
                first=f"{answer.first_token:.2f}",
            )
        )
        context = next((each.context for each in loaded.values()), 0)
        used = answer.prompt_tokens + answer.tokens
        if context:
            said.append(say(lang, "ui.chat.context", used=used, context=context, share=round(100 * used / context)))
    return tag('<p class="gs-foot gs-number" data-key="f{key}">{said}</p>', key=key, said=" · ".join(said))


def _after(lang: str, chat: ChatState, opened: OpenConversation, turn: Turn, *, last: bool) -> Html:
    """What can be done with an answer: ask again, go on from here, keep it for training."""
    if chat.taught == turn.id:
        return _teach(lang, chat, opened, turn)
    buttons = [button("retry", say(lang, "ui.chat.retry"), look="quiet", turn=turn.id)]
    if len(turn.answers) == 1:
        buttons.append(_copy(lang, turn.answers[0]))
    if not last:
        buttons.append(button("branch", say(lang, "ui.chat.branch"), look="quiet", turn=turn.id))
    for side, answer in enumerate(turn.answers):
        if answer.messages:
            words = say(lang, "ui.chat.teach" if len(turn.answers) == 1 else f"ui.chat.teach_{side + 1}")
            buttons.append(button("teach", words, look="quiet", turn=turn.id, side=side))
    return tag('<div class="gs-row gs-after" data-key="b{id}">{buttons}</div>', id=turn.id, buttons=buttons)


def _copy(lang: str, answer: Answer) -> Html:
    """The answer's own text, as it was written, without its thoughts."""
    said = [thought_and_answer(part.strip())[1] for part in answer.parts if isinstance(part, str)]
    return tag(
        '<span><pre hidden>{text}</pre><button type="button" class="gs-button gs-look-quiet" data-copy'
        ' data-done="{done}">{label}</button></span>',
        text="\n\n".join(filter(None, said)),
        done=say(lang, "ui.common.copied"),
        label=say(lang, "ui.common.copy"),
    )


def _teach(lang: str, chat: ChatState, opened: OpenConversation, turn: Turn) -> Html:
    """The training example as it will be saved, with every text editable."""
    side = chat.side
    fields = [
        tag(
            '<label>{role}<textarea data-field="m{number}" rows="{rows}">{text}</textarea></label>',
            role=say(lang, "ui.chat.role_call", tool=line.tool)
            if line.tool
            else say(lang, f"ui.chat.role_{line.role}"),
            number=number,
            rows=min(8, 1 + line.text.count("\n") + len(line.text) // 90),
            text=line.text,
        )
        for number, line in enumerate(lines(opened.conversation, turn.id, side))
    ]
    names = [tag('<option value="{name}">', name=name) for name in data_sets()]
    wrong = chat.problem
    return tag(
        '<section class="gs-teach gs-stack" data-scope data-key="l{id}-{side}"><h3>{title}</h3>'
        '<p class="gs-small">{text}</p>{fields}'
        '<label>{label}<input data-field="name" list="chat-sets" value="{default}"></label>'
        '<datalist id="chat-sets">{names}</datalist>{problem}<div class="gs-row">{keep}{leave}</div></section>',
        id=turn.id,
        side=side,
        title=say(lang, "ui.chat.teach"),
        text=say(lang, "ui.chat.teach_text"),
        fields=fields,
        label=say(lang, "ui.chat.data_set"),
        default=DEFAULT,
        names=names,
        problem=problem(lang, wrong) if wrong else "",
        keep=button("teach-keep", say(lang, "ui.chat.keep"), look="primary", turn=turn.id, side=side),
        leave=button("leave", say(lang, "ui.chat.leave"), look="quiet"),
    )
