"""Ending what was listed as stale: looked at again, asked politely once, ended if it must be, then proven."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from glmstudio.doctor import audit
from glmstudio.doctor.leftovers import Listed, find_stale, take
from glmstudio.doctor.nvml import read_cards
from glmstudio.doctor.report import EndResult
from glmstudio.doctor.sockets import Sockets, read_sockets
from glmstudio.doctor.table import read_table
from glmstudio.runs.process import Identity, alive, port_is_free, send, with_cookie

_AGENT_GRACE = 35.0  # torchrun itself gives its workers 30 seconds
_POLITE = 10.0  # seconds after SIGTERM: a rank may be writing a checkpoint
_FORCED = 5.0
_MEMORY_BACK = 10.0
_ROUNDS = 3  # of looking for what was started in the meantime
_ONE_AT_A_TIME = threading.Lock()

Tell = Callable[[str], None]


def end_stale(tokens: Sequence[str], *, polite: float = _POLITE, tell: Tell = lambda _: None) -> list[EndResult]:
    """End the processes behind these tokens, which `diagnose()` handed out at most a minute ago.

    Each is classified again first: one that is no longer stale, or stale for another reason, is left alone, and so is
    one whose port others are connected to. Of our own runs, what they started in the meantime is ended with them.
    `tell` is given the name of each stage (`doctor.stage.*`).
    """
    with _ONE_AT_A_TIME:
        tell("looking")
        listed = [(token, take(token)) for token in dict.fromkeys(tokens)]
        now = {each.process.identity: each.process.kind for each in find_stale()}
        due = [each for _, each in listed if each and now.get(each.process.identity) == each.process.kind]
        sockets = read_sockets()
        shared = _shared(due, now, sockets)
        due = [each for each in due if each.process.identity not in shared]
        _end(due, polite, tell)
        tell("proving")
        results = [_result(token, each, each in due, shared, sockets) for token, each in listed]
        _wait_for_memory([each.process.identity.pid for each in due])
        _note(listed, results)
        return results


def _shared(due: list[Listed], stale: dict[Identity, str], sockets: Sockets) -> set[Identity]:
    """Those at whose port a process is connected that is not left behind itself: another training meets there."""
    left_behind = {identity.pid for identity in stale}
    return {
        each.process.identity
        for each in due
        for port in sockets.ports_of(each.process.identity.pid)
        if sockets.connected.get(port, frozenset()) - left_behind
    }


def _end(due: list[Listed], polite: float, tell: Tell) -> None:
    """SIGTERM once to each, torchrun before its workers; then SIGKILL, to what they started meanwhile, too."""
    targets = [each.process.identity for each in due]
    agents = [target for target in targets if _is_agent(target)]
    if agents:
        tell("agent")
        _signal(agents, signal.SIGTERM)
        _wait(targets, _AGENT_GRACE)
    tell("asking")
    rest = [target for target in targets if target not in agents]
    _signal(rest, signal.SIGTERM)
    _wait(targets, polite)
    late = [each for each in _started_since(due) if each not in targets]
    _signal(late, signal.SIGTERM)
    _wait(late, _FORCED)
    for _ in range(_ROUNDS):
        left = [target for target in {*targets, *_started_since(due)} if alive(target)]
        if not left:
            return
        tell("killing")
        _signal(left, signal.SIGKILL)
        _wait(left, _FORCED)


def _started_since(due: list[Listed]) -> list[Identity]:
    """What carries the run id of ours, found anew. Of strangers' only what a person ticked is ended."""
    return [each for cookie in {each.cookie for each in due if each.cookie} for each in with_cookie(cookie)]


def _is_agent(identity: Identity) -> bool:
    process = read_table().processes.get(identity.pid)
    return process is not None and process.is_agent


def _signal(identities: Iterable[Identity], number: int) -> None:
    for identity in identities:
        send(identity, number)


def _wait(identities: Sequence[Identity], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(alive, identities)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _wait_for_memory(pids: list[int]) -> None:
    """The driver forgets an ended process a moment later; the next look at the cards should not show it."""
    deadline = time.monotonic() + _MEMORY_BACK
    while time.monotonic() < deadline:
        if not any(process.pid in pids for gpu in read_cards().gpus for process in gpu.processes):
            return
        time.sleep(0.5)


def _result(token: str, listed: Listed | None, was_due: bool, shared: set[Identity], sockets: Sockets) -> EndResult:
    if listed is None:
        return EndResult(token, None, "expired")
    identity = listed.process.identity
    if identity in shared:
        return EndResult(token, identity.pid, "shared")
    if not was_due:
        return EndResult(token, identity.pid, "changed" if alive(identity) else "gone")
    if alive(identity):
        return EndResult(token, identity.pid, "stuck")
    ports = sorted(sockets.ports_of(identity.pid))
    return EndResult(token, identity.pid, "ended", tuple(port for port in ports if port_is_free(port)))


def _note(listed: list[tuple[str, Listed | None]], results: list[EndResult]) -> None:
    """Keep a record of what was ended, for whoever wonders later where a process went."""
    for (_, each), result in zip(listed, results, strict=True):
        if each and result.outcome in ("ended", "stuck"):
            process = each.process
            audit.note("end", pid=result.pid, kind=process.kind, command=process.command, outcome=result.outcome)
