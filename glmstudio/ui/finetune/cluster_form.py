"""The machines that train one run together, as a form; and while the run goes on, who has joined and who is missing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from glmstudio.cluster.join_code import new_code
from glmstudio.cluster.scripts import shell_script, slurm_script
from glmstudio.cluster.spec import MOST, make_cluster, own_addresses
from glmstudio.cluster.view import ClusterView, MachineView, read_cluster
from glmstudio.errors import StudioError
from glmstudio.rundir.machines import JOIN_SECONDS, PORT, Cluster
from glmstudio.ui.framework.live import PageState
from glmstudio.ui.framework.markup import Safe, button, chip, copyable, fold, problem, tag
from glmstudio.ui.state.form_state import recipe
from glmstudio.ui.state.runwatch import RunSnapshot
from glmstudio.units import duration, size
from glmstudio.words import say

_NUMBERS = (("port", str(PORT)), ("least", ""), ("join_seconds", str(JOIN_SECONDS)))
_LOOKS = {
    "missing": "waiting", "joined": "note", "training": "running", "ended": "good", "gone": "good", "lost": "bad",
    "refused": "bad",
}  # fmt: skip


def render_machines(lang: str, view: PageState) -> Safe:
    """The form, folded until somebody wants more than this machine."""
    rows = view.machines or _first_rows()
    values = dict(view.meeting)
    body = tag(
        '<div data-scope data-typed class="gs-stack"><p class="gs-small">{about}</p>{rows}'
        '<div class="gs-fields">{numbers}</div><div class="gs-row">{add}{use}{leave}</div></div>{wrong}{used}',
        about=say(lang, "ui.machines.about"),
        rows=[_row(lang, number, *row) for number, row in enumerate(rows, 1)],
        numbers=[_input(lang, name, values.get(name, usual)) for name, usual in _NUMBERS],
        add=button("machine-add", say(lang, "ui.machines.add"), look="quiet"),
        use=button("machines", say(lang, "ui.machines.use")),
        leave=button("machines-off", say(lang, "ui.machines.off"), look="quiet") if view.cluster else "",
        wrong=_wrong(lang, view.machines_problem) if view.machines_problem else "",
        used=_used(lang, view),
    )
    label = say(lang, "ui.machines.label")
    if view.cluster:
        label = say(lang, "ui.machines.used", n=len(view.cluster.machines))
    return fold(label, body, key="machines", unfolded=bool(view.cluster or view.machines_problem))


def render_joined(lang: str, known: RunSnapshot) -> Safe:
    """Of a run of several machines: each with its state, its reason, and the command that makes it join."""
    found = read_cluster(known.run)
    if found is None:
        return Safe("")
    heads = [tag("<th>{text}</th>", text=say(lang, f"ui.machines.column_{name}")) for name in _COLUMNS]
    table = tag(
        '{waits}<div class="gs-wide-table"><table class="gs-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>'
        "</table></div>{problems}{commands}",
        waits=_waits(lang, found),
        heads=heads,
        rows=[_machine(lang, each) for each in found.machines],
        problems=[problem(lang, each.problem, kind="attention") for each in found.machines if each.problem],
        commands=[_command(lang, each) for each in found.machines if each.command] if known.state.live else "",
    )
    return fold(say(lang, "ui.machines.used", n=len(found.machines)), table, key="joined", unfolded=known.state.live)


_COLUMNS = ("number", "address", "state", "heard", "memory")


def _waits(lang: str, found: ClusterView) -> Safe:
    """For how long the missing ones are still waited for, and how often the run began anew."""
    said = [
        say(lang, "ui.machines.waits", time=duration(lang, found.waits))
        if found.waits is not None and found.waits > 0
        else "",
        say(lang, "ui.machines.restarts", count=found.restarts) if found.restarts else "",
    ]
    text = " · ".join(filter(None, said))
    return tag('<p class="gs-small">{text}</p>', text=text) if text else Safe("")


def _machine(lang: str, each: MachineView) -> Safe:
    state = each.state if each.number > 1 or each.state != "missing" else "joined"
    heard = each.heard if state in ("joined", "training", "lost") else None
    return tag(
        "<tr><td>{number}</td><td>{address}<br><span class='gs-small'>{host}</span></td>"
        "<td>{state}</td><td>{heard}</td><td>{memory}</td></tr>",
        number=each.number,
        address=f"{each.address} × {each.processes}",
        host=each.host,
        state=chip(_LOOKS[state], say(lang, f"cluster.state.{state}")),
        heard=duration(lang, time.time() - heard) if heard else "–",
        memory=size(each.memory) if each.memory else "–",
    )


def _command(lang: str, each: MachineView) -> Safe:
    return tag(
        '<p class="gs-small">{text}</p>{command}',
        text=say(lang, "ui.machines.type_there", number=each.number, address=each.address),
        command=copyable(lang, each.command, key=f"join-{each.number}"),
    )


def _row(lang: str, number: int, address: str, processes: str) -> Safe:
    label = say(lang, "ui.machines.first" if number == 1 else "ui.machines.other", n=number)
    return tag(
        '<div class="gs-fields"><label>{label}<input data-field="address_{number}" value="{address}"'
        ' placeholder="10.0.0.{number}"></label><label>{processes_label}<input inputmode="numeric"'
        ' data-field="processes_{number}" value="{processes}"></label></div>',
        label=label,
        number=number,
        address=address,
        processes_label=say(lang, "ui.machines.processes"),
        processes=processes,
    )


def _input(lang: str, name: str, value: str) -> Safe:
    return tag(
        '<label>{label}<input data-field="{name}" inputmode="numeric" value="{value}"></label>',
        label=say(lang, f"ui.machines.{name}"),
        name=name,
        value=value,
    )


def _used(lang: str, view: PageState) -> Safe:
    """What happens next, once the list is right; and the same as scripts, with a join code of their own."""
    request = recipe(view).request
    if view.cluster is None or view.machines_problem or request is None:
        return Safe("")
    code = _script_code(view.cluster)
    shell = shell_script(view.cluster, request.parts(), code)
    slurm = slurm_script(view.cluster, request.parts(with_machines=False), code)
    return tag(
        '<p class="gs-small">{text}</p>{shell}{slurm}',
        text=say(lang, "ui.machines.next"),
        shell=fold(say(lang, "ui.machines.shell"), copyable(lang, shell, key="shell"), key="script-shell"),
        slurm=fold(say(lang, "ui.machines.slurm"), copyable(lang, slurm, key="slurm"), key="script-slurm"),
    )


@lru_cache(maxsize=20)
def _script_code(_: Cluster) -> str:
    """One code for as long as the list stays: else the script would change while it is copied."""
    return new_code()


def _wrong(lang: str, error: StudioError) -> Safe:
    """Everything that is wrong, one below the other."""
    errors = error.values.get("errors")
    if not isinstance(errors, tuple):
        return problem(lang, error)
    return tag(
        '<div class="gs-problem gs-bad" role="alert"><div><strong>{title}</strong><ul class="gs-list">{errors}</ul>'
        "</div></div>",
        title=say(lang, "ui.machines.wrong", n=len(errors)),
        errors=[tag("<li>{what}</li>", what=each.what(lang)) for each in errors],
    )


def act_use(view: PageState, data: dict[str, Any]) -> PageState:
    """Take the list over, or say everything that is wrong with it."""
    rows, meeting = _typed(data)
    view = replace(view, machines=rows, meeting=meeting, form_problem=None)
    filled = [row for number, row in enumerate(rows) if row[0] or number == 0]  # rows that nobody filled in do no harm
    numbers: dict[str, Any] = dict(meeting)
    try:
        return replace(view, cluster=make_cluster(filled, **numbers), machines_problem=None)
    except StudioError as error:
        return replace(view, cluster=None, machines_problem=error)


def act_add(view: PageState, data: dict[str, Any]) -> PageState:
    """One more empty row; what was typed stays."""
    rows, meeting = _typed(data)
    return replace(view, machines=(*rows, ("", rows[-1][1]))[: MOST + 1], meeting=meeting)


def act_off(view: PageState, _: dict[str, Any]) -> PageState:
    """This machine alone again."""
    return replace(view, cluster=None, machines_problem=None)


ACTIONS: dict[str, Callable[[PageState, dict[str, Any]], PageState]] = {
    "machines": act_use,
    "machine-add": act_add,
    "machines-off": act_off,
}


def _first_rows() -> tuple[tuple[str, str], ...]:
    """This machine by its address in the network, and room for another one."""
    own = sorted(address for address in own_addresses() if not address.startswith("127."))
    return ((own[0] if own else "", "1"), ("", "1"))


def _typed(data: dict[str, Any]) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """The rows and the numbers that the form says; they are text from a browser."""
    fields = data.get("fields")
    told = {str(name): str(value)[:200].strip() for name, value in fields.items()} if isinstance(fields, dict) else {}
    count = sum(f"address_{number}" in told for number in range(1, MOST + 2))
    rows = tuple(
        (told.get(f"address_{number}", ""), told.get(f"processes_{number}", "1")) for number in range(1, count + 1)
    )
    return rows or _first_rows(), tuple((name, told.get(name, usual)) for name, usual in _NUMBERS)
