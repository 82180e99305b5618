"""All checks at once: each in its own thread, none able to stop or delay the others beyond its limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late

from glmstudio.doctor import card, leftovers, machine, network, pytorch  # noqa: F401  importing them registers their checks
from glmstudio.doctor.checks import CHECKS, Check, Probes
from glmstudio.doctor.report import Report, Result


def diagnose(*, only: Iterable[str] | None = None) -> Report:
    """Look at the machine and change nothing.

    `only` names the checks to make: by id ("port.29400"), by group ("port") or by family ("network").
    """
    begun = time.monotonic()
    wanted = None if only is None else set(only)
    probes = Probes()
    running = [(check, _start(check, probes)) for check in CHECKS if wanted is None or wanted & _names(check)]
    results = tuple(_finish(check, future, begun) for check, future in running)
    cards = probes.known(card.read_cards, card.NO_CARDS)
    stale = probes.known(leftovers.list_stale, leftovers.NOTHING)
    return Report(results, cards.gpus, stale, time.monotonic() - begun)


def _names(check: Check) -> set[str]:
    return {check.id, check.id.partition(".")[0], check.family}


def _start(check: Check, probes: Probes) -> Future[Result]:
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(check.run(probes))
        except Exception as error:  # noqa: BLE001  a check that breaks is a result, not the end of the others
            future.set_exception(error)

    # A daemon, because a check that hangs in the system cannot be cancelled and must not keep the program from ending.
    threading.Thread(target=work, name=f"doctor-{check.id}", daemon=True).start()
    return future


def _finish(check: Check, future: Future[Result], begun: float) -> Result:
    try:
        return future.result(timeout=max(0.0, begun + check.limit - time.monotonic()))
    except Late:
        return Result(check.id, check.family, "crash", "late", {"limit": check.limit, **_title_values(check)})
    except Exception as error:  # noqa: BLE001  see _start
        text = f"{type(error).__name__}: {error}"
        return Result(check.id, check.family, "crash", "crash", {"error": text, **_title_values(check)})


def _title_values(check: Check) -> dict[str, str]:
    """What the title of a group's member needs: `port.29400` is titled with its number."""
    group, _, member = check.id.partition(".")
    return {group: member} if member else {}
