"""Ending what was listed as stale: looked at again, asked politely once, ended if it must be, then proven."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from glmstudio.doctor.engine import audit
from glmstudio.doctor.engine.end_result import EndResult
from glmstudio.doctor.stale.stale_processes import Listed, find_stale, take
from glmstudio.errors import StudioError
from glmstudio.system.gpu_memory import held_mib
from glmstudio.system.portable.signals import CONTINUE, KILL, TERMINATE
from glmstudio.system.process import Identity, alive, port_is_free, send, with_cookie
from glmstudio.system.process_table import ProcessTable, is_stopped, read_table
from glmstudio.system.sockets import Sockets, read_sockets

_AGENT_GRACE = 35.0  # torchrun itself gives its workers 30 seconds
_POLITE = 10.0  # seconds after SIGTERM: a rank may be writing a checkpoint
_FORCED = 5.0
_MEMORY_BACK = 10.0
_ROUNDS = 3  # of looking for what was started in the meantime
_ONE_AT_A_TIME = threading.Lock()

Tell = Callable[[str], None]
StopRun = Callable[[str], None]  # stops the run of this name; may raise StudioError


def end_stale(
    tokens: Sequence[str], *, polite: float = _POLITE, tell: Tell = lambda _: None, stop_run: StopRun | None = None
) -> list[EndResult]:
    """End the processes behind these tokens, which `diagnose()` handed out at most a minute ago.

    Each is classified again first: one that is no longer stale, or stale for another reason, is left alone, and so is
    one whose port others are connected to. Of our own runs, what they started in the meantime is ended with them.
    A run of ours that is suspended has a supervisor and a state: `stop_run` stops it like every other run, first.
    `tell` is given the name of each stage (`doctor.stage.*`).
    """
    with _ONE_AT_A_TIME:
        tell("looking")
        listed = [(token, take(token)) for token in dict.fromkeys(tokens)]
        table, sockets = read_table(), read_sockets()
        now = {each.process.identity: each.process.kind for each in find_stale(table)}
        due = [each for _, each in listed if each and now.get(each.process.identity) == each.process.kind]
        shared = _shared(due, now, table, sockets)
        due = [each for each in due if each.process.identity not in shared]
        held = held_mib() if due else None
        if stop_run:
            _stop_runs(due, tell, stop_run)
        _end(due, table, polite, tell)
        tell("proving")
        proof = _Proof(due, shared, sockets, held)
        results = [proof.of(token, each) for token, each in listed]
        _note(listed, results)
        return results


def _shared(due: list[Listed], stale: dict[Identity, str], table: ProcessTable, sockets: Sockets) -> set[Identity]:
    """Those at whose port a process is connected that is not left behind itself: another training meets there."""
    left_behind = {identity.pid for identity in stale}
    return {
        each.process.identity
        for each in due
        for port in sockets.ports_of(each.process.identity.pid)
        if set(sockets.peers(port, each.process.identity.pid)) - left_behind - _own(each, table)
    }


def _own(listed: Listed, table: ProcessTable) -> set[int]:
    """Of a suspended process: its own training, of which some may still run. They lose nothing that they could keep."""
    process = table.processes.get(listed.process.identity.pid)
    return table.training_of(process) if process and listed.process.suspended else set()


def _end(due: list[Listed], table: ProcessTable, polite: float, tell: Tell) -> None:
    """SIGTERM once to each, torchrun before its workers; then SIGKILL, to what they started meanwhile, too."""
    targets = [each.process.identity for each in due]
    agents = [target for target in targets if target.pid in table.processes and table.processes[target.pid].is_agent]
    if agents:
        tell("agent")
        _ask(agents)
        _wake(targets)  # so that they hear what torchrun tells them
        _wait(agents, _AGENT_GRACE)  # it ends after its workers
    tell("asking")
    rest = [target for target in targets if target not in agents]
    _ask(rest)
    _wait(targets, polite)
    late = [each for each in _started_since(due) if each not in targets]
    _ask(late)
    _wait(late, min(polite, _FORCED))
    for _ in range(_ROUNDS):
        left = [target for target in {*targets, *_started_since(due)} if alive(target)]
        if not left:
            return
        tell("killing")
        _signal(left, KILL)
        _wait(left, _FORCED)


def _stop_runs(due: list[Listed], tell: Tell, stop_run: StopRun) -> None:
    for name in {str(each.process.values["run"]) for each in due if each.process.kind == "ours_suspended"}:
        tell("agent")
        with contextlib.suppress(StudioError):  # what no signal ends is found again when it is proven
            stop_run(name)


def _ask(identities: Sequence[Identity]) -> None:
    """SIGTERM; one that is suspended hears it only when it goes on."""
    _signal(identities, TERMINATE)
    _wake(identities)


def _wake(identities: Sequence[Identity]) -> None:
    _signal([each for each in identities if is_stopped(each.pid)], CONTINUE)


def _started_since(due: list[Listed]) -> list[Identity]:
    """What carries the run id of ours, found anew. Of strangers' only what a person ticked is ended."""
    return [each for cookie in {each.cookie for each in due if each.cookie} for each in with_cookie(cookie)]


def _signal(identities: Iterable[Identity], number: int | None) -> None:
    for identity in identities:
        send(identity, number)


def _wait(identities: Sequence[Identity], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(alive, identities)) and time.monotonic() < deadline:
        time.sleep(0.05)


class _Proof:
    """What can be shown once all is done: who is gone, which ports are free, and how much memory came back."""

    def __init__(self, due: list[Listed], shared: set[Identity], sockets: Sockets, held: dict[int, int] | None) -> None:
        self._due = {each.process.identity for each in due}
        self._shared, self._sockets = shared, sockets
        self._held = {each.pid: held[each.pid] for each in self._due if held and held.get(each.pid)}
        self._still_held = self._wait_for_memory()

    def of(self, token: str, listed: Listed | None) -> EndResult:
        """What became of one of them."""
        if listed is None:
            return EndResult(token, None, "expired")
        identity = listed.process.identity
        if identity in self._shared:
            return EndResult(token, identity.pid, "shared")
        if identity not in self._due:
            return EndResult(token, identity.pid, "changed" if alive(identity) else "gone")
        if alive(identity):
            return EndResult(token, identity.pid, "stuck")
        ports = {port: port_is_free(port) for port in sorted(self._sockets.ports_of(identity.pid))}
        held, still = self._held.get(identity.pid, 0), (self._still_held or {}).get(identity.pid, 0)
        return EndResult(
            token,
            identity.pid,
            "ended",
            freed_ports=tuple(port for port, free in ports.items() if free),
            kept_ports=tuple(port for port, free in ports.items() if not free),
            freed_mib=None if self._still_held is None else max(0, held - still) or None,
            kept_mib=still or None,
        )

    def _wait_for_memory(self) -> dict[int, int] | None:
        """What the driver still counts, for it forgets an ended process a moment later; None if it no longer tells."""
        deadline = time.monotonic() + _MEMORY_BACK
        still = self._held
        while still and time.monotonic() < deadline:
            now = held_mib()
            if now is None:
                return None
            still = {pid: mib for pid, mib in now.items() if pid in self._held}
            time.sleep(0.5 if still else 0)
        return still


def _note(listed: list[tuple[str, Listed | None]], results: list[EndResult]) -> None:
    """Keep a record of what was ended, for whoever wonders later where a process went."""
    for (_, each), result in zip(listed, results, strict=True):
        if each and result.outcome in ("ended", "stuck"):
            process = each.process
            audit.note("end", pid=result.pid, kind=process.kind, command=process.command, outcome=result.outcome)
