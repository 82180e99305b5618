"""What is known of the machines of a run, as the page and the commands show it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from glmstudio import untrusted
from glmstudio.cluster.join_code import read_code
from glmstudio.cluster.scripts.shell_scripts import join_line
from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.rundir.machines import Cluster
from glmstudio.rundir.run import Run

STATES = ("missing", "joined", "training", "ended", "lost", "refused", "gone")


@dataclass(frozen=True)
class MachineView:
    """One machine. `state` is one of `STATES`, since the time `since`; `heard`: when it last spoke; both in seconds
    since 1970. `memory` in bytes; `command`: what is typed there, empty for the first one."""

    number: int
    address: str
    host: str
    processes: int
    state: str
    since: float
    heard: float | None
    problem: StudioError | None
    memory: int
    versions: dict[str, str]
    command: str


@dataclass(frozen=True)
class ClusterView:
    """The machines of a run. `waits`: seconds for which missing ones are still waited for; None where nobody waits."""

    cluster: Cluster
    machines: tuple[MachineView, ...]
    restarts: int
    waits: float | None

    @property
    def left_behind(self) -> list[MachineView]:
        """The other machines that took part and have not said that nothing is left there."""
        return [each for each in self.machines[1:] if each.state in ("joined", "training", "ended", "lost")]


def read_cluster(run: Run) -> ClusterView | None:
    """Of a run of several machines what its first machine knows; None for any other run."""
    cluster = run.record.cluster
    if cluster is None:
        return None
    about = read_table(run.path / "cluster.json")
    told = map(untrusted.table, untrusted.items(about.get("machines")))
    rows = {untrusted.number(row.get("number")): row for row in told}
    try:
        code = read_code(run.path)
    except StudioError:
        code = ""
    machines = tuple(
        _machine(cluster, number, rows.get(number, {}), code) for number in range(1, len(cluster.machines) + 1)
    )
    until = untrusted.number(about.get("until"))
    return ClusterView(
        cluster, machines, int(untrusted.number(about.get("restarts"))), until - time.time() if until else None
    )


def _machine(cluster: Cluster, number: int, row: dict[str, object], code: str) -> MachineView:
    machine, state = cluster.machines[number - 1], str(row.get("state"))
    return MachineView(
        number=number,
        address=machine.address,
        host=str(row.get("host") or ""),
        processes=machine.processes,
        state=state if state in STATES else "missing",
        since=untrusted.number(row.get("since")),
        heard=untrusted.number(row.get("heard")) or None,
        problem=untrusted.problem(row.get("problem")),
        memory=int(untrusted.number(row.get("memory"))),
        versions={name: str(value) for name, value in untrusted.table(row.get("versions")).items() if value},
        command=join_line(cluster, number, code) if number > 1 else "",
    )
