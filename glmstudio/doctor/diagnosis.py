"""All checks at once: each in its own thread, none able to stop or delay the others beyond its limit."""

from __future__ import annotations

import difflib
import queue
import threading
import time
from collections.abc import Callable, Iterable

from glmstudio.doctor.checks import (  # noqa: F401  importing a file of checks registers them
    gpu,
    gpu_health,
    gpu_links,
    hostname,
    machine,
    model_folders,
    model_hubs,
    network,
    other_trainings,
    past_runs,
    ports,
    python_packages,
    pytorch,
    training_start,
)
from glmstudio.doctor.engine.check import CHECKS, FAMILIES, Check, Probes
from glmstudio.doctor.engine.report import Finding, Report
from glmstudio.doctor.stale import stale_checks, stale_processes  # noqa: F401
from glmstudio.errors import LazyText, StudioError
from glmstudio.system import nvml

Tell = Callable[[list[Finding]], None]
_Arrivals = queue.SimpleQueue[tuple[Check, list[Finding]]]


def diagnose(*, only: Iterable[str] | None = None, deep: bool = False, tell: Tell | None = None) -> Report:
    """Look at the machine and change nothing.

    `only` names the checks to make: by id ("net.port"), by group ("net") or by family ("network"). `deep` adds those
    that take long; whoever names one by its id or group has asked for it. `tell` is called with the results of each
    check as soon as it has finished.
    """
    begun = time.monotonic()
    probes = Probes()
    checks = chosen(only, deep=deep)
    arrivals: _Arrivals = queue.SimpleQueue()
    for check in checks:
        _start(check, probes, arrivals)
    results: dict[str, list[Finding]] = {}
    while waiting := [check for check in checks if check.id not in results]:
        for check, outcome in _next(waiting, arrivals, begun):
            if check.id not in results:
                results[check.id] = outcome
                if tell:
                    tell(outcome)
    return Report(
        results=tuple(result for check in checks for result in results[check.id]),
        gpus=probes.known(nvml.read_cards, nvml.NO_CARDS).gpus,
        stale=probes.known(stale_processes.list_stale, stale_processes.NOTHING),
        seconds=time.monotonic() - begun,
        jobs=probes.known(other_trainings.find_jobs, other_trainings.NO_JOBS),
    )


def chosen(only: Iterable[str] | None = None, *, deep: bool = False) -> list[Check]:
    """The checks that `diagnose` would make; those that take long only if they are asked for."""
    checks = sorted(CHECKS, key=lambda check: FAMILIES.index(check.family))
    wanted = set(FAMILIES if only is None else only)
    quick = [check for check in checks if check.family in wanted and (deep or not check.deep)]
    return [check for check in checks if check in quick or wanted & {check.id, check.id.partition(".")[0]}]


def refuse_unknown(names: Iterable[str]) -> None:
    """Raise StudioError for the first name that is no check, group or family, with the one that comes nearest."""
    known = {name for check in CHECKS for name in (check.id, check.id.partition(".")[0], check.family)}
    for name in names:
        if name not in known:
            # Checks are told by their whole name, so that one letter too few names no group of them.
            (nearest,) = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0)
            raise StudioError("doctor.unknown_check", name=name, nearest=nearest)


def _start(check: Check, probes: Probes, arrivals: _Arrivals) -> None:
    def work() -> None:
        try:
            outcome = check.run(probes)
        except Exception as error:  # noqa: BLE001  a check that breaks is a result, not the end of the others
            outcome = [_broken(check, "crash", error=f"{type(error).__name__}: {error}")]
        arrivals.put((check, outcome))

    # A daemon, because a check that hangs in the system cannot be cancelled and must not keep the program from ending.
    threading.Thread(target=work, name=f"doctor-{check.id}", daemon=True).start()


def _next(waiting: list[Check], arrivals: _Arrivals, begun: float) -> list[tuple[Check, list[Finding]]]:
    """The next check that finishes, or those whose time is over."""
    deadline = begun + min(check.limit for check in waiting)
    try:
        return [arrivals.get(timeout=max(0.001, deadline - time.monotonic()))]
    except queue.Empty:
        late = [check for check in waiting if begun + check.limit <= time.monotonic()]
        return [(check, [_broken(check, "late", limit=check.limit)]) for check in late]


def _broken(check: Check, case: str, **values: object) -> Finding:
    values["check"] = LazyText(f"doctor.{check.id}.title")
    return Finding("crash", case, values, id=check.id, family=check.family)
