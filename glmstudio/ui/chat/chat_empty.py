"""A conversation that has not begun: what to do first, and what may be asked."""

from __future__ import annotations

from glmstudio.chat.available_tools import run_behind
from glmstudio.ui.chat.chat_model import chosen_adapter, chosen_model, loaded, server_state
from glmstudio.ui.chat.chat_tools import offers_tools
from glmstudio.ui.framework.markup import Html, button, empty, tag
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state.page_state import ChatState
from glmstudio.words import say

EXAMPLES = 4


def render_empty(lang: str, chat: ChatState) -> Html:
    """What may be asked: what needs a tool where tools are offered, else what the run was shown."""
    if server_state().state != "ready":
        return empty(say(lang, "ui.chat.load_first"), say(lang, "ui.chat.load_first_text"), icon_name="chat")
    form = "empty" if offers_tools(chat) else "empty_plain"
    # What the shipped sample teaches comes first where a fine-tuned model is loaded.
    numbers = ([EXAMPLES + 1] if len(loaded()) > 1 else []) + list(range(1, EXAMPLES + 1))
    if form == "empty":
        questions = [say(lang, f"ui.chat.example_{number}") for number in numbers]
    else:
        questions = _shown_in_training(chosen_model(chat), chosen_adapter(chat))
    examples = tag(
        '<div class="gs-examples">{buttons}</div>',
        buttons=[button("ask", question, question=question) for question in questions],
    )
    return empty(say(lang, f"ui.chat.{form}"), say(lang, f"ui.chat.{form}_text"), icon_name="chat", action=examples)


@cached(5.0, lambda model, adapter: (model, adapter))
def _shown_in_training(model: str, adapter: str) -> list[str]:
    """The questions that the run behind a model was asked at its checkpoints."""
    run = run_behind(model, adapter)
    rows = run.samples()[0] if run else []
    asked = (str(row["question"]) for row in rows if isinstance(row.get("question"), str))
    return [question for question in dict.fromkeys(asked) if question.strip()][:EXAMPLES]
