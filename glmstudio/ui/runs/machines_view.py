"""The machines of a run: which have joined, which are missing, and the command that makes one join."""

from __future__ import annotations

import time
from typing import Any

from glmstudio.cluster.view import ClusterView, MachineView, read_cluster
from glmstudio.ui.framework.markup import Html, chip, copyable, fold, problem, tag
from glmstudio.ui.framework.stacking_table import table
from glmstudio.ui.state.runwatch import RunSnapshot
from glmstudio.units import duration, memory_bytes
from glmstudio.words import say

_LOOKS = {
    "missing": "waiting", "joined": "note", "training": "running", "ended": "good", "gone": "good", "lost": "bad",
    "refused": "bad",
}  # fmt: skip
_COLUMNS = ("number", "address", "state", "heard", "memory")


def render_joined(lang: str, known: RunSnapshot) -> Html:
    """Each machine with its state, its reason, and the command that makes it join; nothing where there is only one."""
    found = read_cluster(known.run)
    if found is None:
        return Html("")
    shown = [
        _waits(lang, found),
        table(
            [say(lang, f"ui.machines.column_{name}") for name in _COLUMNS], [_machine(lang, m) for m in found.machines]
        ),
        *(problem(lang, each.problem, kind="attention") for each in found.machines if each.problem),
        *(_command(lang, each) for each in found.machines if each.command and known.state.live),
    ]
    return fold(say(lang, "ui.machines.used", n=len(found.machines)), shown, key="joined", unfolded=known.state.live)


def _waits(lang: str, found: ClusterView) -> Html:
    """How long the run waits for missing machines, and how often it was restarted."""
    said = [
        say(lang, "ui.machines.waits", time=duration(lang, found.waits))
        if found.waits is not None and found.waits > 0
        else "",
        say(lang, "ui.machines.restarts", count=found.restarts) if found.restarts else "",
    ]
    text = " · ".join(filter(None, said))
    return tag('<p class="gs-small">{text}</p>', text=text) if text else Html("")


def _machine(lang: str, each: MachineView) -> list[Any]:
    state = each.state if each.number > 1 or each.state != "missing" else "joined"
    heard = each.heard if state in ("joined", "training", "lost") else None
    address = f"{each.address} × {each.processes}"
    return [
        each.number,
        tag('<span>{address}<br><span class="gs-small">{host}</span></span>', address=address, host=each.host),
        chip(_LOOKS[state], say(lang, f"cluster.state.{state}")),
        duration(lang, time.time() - heard) if heard else "–",
        memory_bytes(each.memory) if each.memory else "–",
    ]


def _command(lang: str, each: MachineView) -> Html:
    return tag(
        '<p class="gs-small">{text}</p>{command}',
        text=say(lang, "ui.machines.type_there", number=each.number, address=each.address),
        command=copyable(lang, each.command, key=f"join-{each.number}"),
    )
