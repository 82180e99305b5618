"""The choice of GPUs: free memory, temperature, and who uses each."""

from __future__ import annotations

from glmstudio.config.devices import cards_of
from glmstudio.doctor import Gpu
from glmstudio.rundir.occupancy import chat_on, run_on
from glmstudio.ui.framework.markup import Html, bar, tag
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.form_state import recipe
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.units import memory
from glmstudio.words import say

_NAMED = 2  # programs that are named for a GPU; the Doctor step shows all


def render_cards(lang: str, form: FinetuneState) -> Html:
    """A button for each GPU, pressed if the run would use it; nothing on a machine without one."""
    gpus = CHECKUP.gpus()
    if not gpus:
        return Html("")
    taken = {card.index for card in cards_of(recipe(form).device)}
    return tag(
        '<fieldset class="gs-choice"><legend>{label}</legend><div class="gs-presets">{cards}</div>'
        '<p class="gs-small">{hint}</p></fieldset>',
        label=say(lang, "ui.cards.label"),
        cards=[_card(lang, gpu, gpu.index in taken) for gpu in gpus],
        hint=say(lang, "ui.cards.hint", count=len(taken)),
    )


def _card(lang: str, gpu: Gpu, taken: bool) -> Html:
    used = gpu.total_mib - gpu.free_mib
    facts = [
        say(lang, "ui.cards.free", free=memory(gpu.free_mib), total=memory(gpu.total_mib)),
        "" if gpu.temperature_c is None else f"{gpu.temperature_c} °C",
        "" if gpu.utilization is None else f"{gpu.utilization} %",
    ]
    return tag(
        '<button type="button" class="gs-preset" data-act="card" data-card="{uuid}" aria-pressed="{pressed}">'
        '<b>GPU {index} · {name}</b>{bar}<span class="gs-small gs-number">{facts}</span>'
        '<span class="gs-small">{who}</span></button>',
        uuid=gpu.uuid or gpu.index,
        pressed="true" if taken else "false",
        index=gpu.index,
        name=gpu.name,
        bar=bar(used / max(1, gpu.total_mib), label=say(lang, "ui.doctor.column_memory")),
        facts=" · ".join(filter(None, facts)),
        who=_who(lang, gpu),
    )


def _who(lang: str, gpu: Gpu) -> str:
    """Who uses the GPU: a run or the chat of this studio, or other programs by name."""
    device = gpu.uuid or str(gpu.index)
    if run := run_on(device):
        return say(lang, "ui.cards.run", name=run.name)
    if model := chat_on(device):
        return say(lang, "ui.cards.chat", model=model)
    if not gpu.processes:
        return say(lang, "ui.cards.nobody")
    names = [f"{each.name} ({each.user})" if each.user else each.name for each in gpu.processes]
    return say(lang, "ui.cards.others", names=", ".join(names[:_NAMED] + ["…"] * (len(names) > _NAMED)))
