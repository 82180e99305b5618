"""The form for training on several machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from glmstudio.cluster.join_code import new_code
from glmstudio.cluster.scripts.shell_scripts import shell_script, slurm_script
from glmstudio.cluster.spec import MOST, make_cluster, own_addresses
from glmstudio.errors import StudioError
from glmstudio.rundir.machines import JOIN_SECONDS, PORT, Cluster
from glmstudio.ui.framework.markup import Html, button, copyable, fold, problem, tag
from glmstudio.ui.state.form_state import read_form
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.words import say

_NUMBERS = (("port", str(PORT)), ("least", ""), ("join_seconds", str(JOIN_SECONDS)))


def render_machines(lang: str, form: FinetuneState) -> Html:
    """The form, folded until it is used."""
    rows = form.machines or _first_rows()
    values = dict(form.meeting)
    body = tag(
        '<div data-scope data-typed class="gs-stack"><p class="gs-small">{about}</p>{rows}'
        '<div class="gs-fields">{numbers}</div><div class="gs-row">{add}{use}{leave}</div></div>{wrong}{used}',
        about=say(lang, "ui.machines.about"),
        rows=[_row(lang, number, *row) for number, row in enumerate(rows, 1)],
        numbers=[_input(lang, name, values.get(name, usual)) for name, usual in _NUMBERS],
        add=button("machine-add", say(lang, "ui.machines.add"), look="quiet"),
        use=button("machines", say(lang, "ui.machines.use")),
        leave=button("machines-off", say(lang, "ui.machines.off"), look="quiet") if form.cluster else "",
        wrong=_wrong(lang, form.machines_problem) if form.machines_problem else "",
        used=_used(lang, form),
    )
    label = say(lang, "ui.machines.label")
    if form.cluster:
        label = say(lang, "ui.machines.used", n=len(form.cluster.machines))
    return fold(label, body, key="machines", unfolded=bool(form.cluster or form.machines_problem))


def _row(lang: str, number: int, address: str, processes: str) -> Html:
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


def _input(lang: str, name: str, value: str) -> Html:
    return tag(
        '<label>{label}<input data-field="{name}" inputmode="numeric" value="{value}"></label>',
        label=say(lang, f"ui.machines.{name}"),
        name=name,
        value=value,
    )


def _used(lang: str, form: FinetuneState) -> Html:
    """What happens next, once the list is valid; and the same as scripts, with a join code of their own."""
    request = read_form(form).request
    if form.cluster is None or form.machines_problem or request is None:
        return Html("")
    code = _script_code(form.cluster)
    shell = shell_script(form.cluster, request.parts(), code)
    slurm = slurm_script(form.cluster, request.parts(with_machines=False), code)
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


def _wrong(lang: str, error: StudioError) -> Html:
    """All errors as a list."""
    errors = error.values.get("errors")
    if not isinstance(errors, tuple):
        return problem(lang, error)
    return tag(
        '<div class="gs-problem gs-bad" role="alert"><div><strong>{title}</strong><ul class="gs-list">{errors}</ul>'
        "</div></div>",
        title=say(lang, "ui.machines.wrong", n=len(errors)),
        errors=[tag("<li>{what}</li>", what=each.what(lang)) for each in errors],
    )


def act_use(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    """Use the list, or show everything that is wrong with it."""
    rows, meeting = _typed(data)
    form = replace(form, machines=rows, meeting=meeting, form_problem=None)
    filled = [row for number, row in enumerate(rows) if row[0] or number == 0]  # rows that nobody filled in do no harm
    numbers: dict[str, Any] = dict(meeting)
    try:
        return replace(form, cluster=make_cluster(filled, **numbers), machines_problem=None)
    except StudioError as error:
        return replace(form, cluster=None, machines_problem=error)


def act_add(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    """Add an empty row; typed text stays."""
    rows, meeting = _typed(data)
    return replace(form, machines=(*rows, ("", rows[-1][1]))[: MOST + 1], meeting=meeting)


def act_off(form: FinetuneState, _: dict[str, Any]) -> FinetuneState:
    """Use only this machine again."""
    return replace(form, cluster=None, machines_problem=None)


ACTIONS: dict[str, Callable[[FinetuneState, dict[str, Any]], FinetuneState]] = {
    "machines": act_use,
    "machine-add": act_add,
    "machines-off": act_off,
}


def _first_rows() -> tuple[tuple[str, str], ...]:
    """This machine by its network address, and an empty row."""
    own = sorted(address for address in own_addresses() if not address.startswith("127."))
    return ((own[0] if own else "", "1"), ("", "1"))


def _typed(data: dict[str, Any]) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """The rows and numbers of the form, as text from a browser."""
    fields = data.get("fields")
    told = {str(name): str(value)[:200].strip() for name, value in fields.items()} if isinstance(fields, dict) else {}
    count = sum(f"address_{number}" in told for number in range(1, MOST + 2))
    rows = tuple(
        (told.get(f"address_{number}", ""), told.get(f"processes_{number}", "1")) for number in range(1, count + 1)
    )
    return rows or _first_rows(), tuple((name, told.get(name, usual)) for name, usual in _NUMBERS)
