"""Ending what was listed as stale: looked at again, asked politely once, ended if it must be, then proven."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Sequence

from glmstudio.doctor.leftovers import Listed, find_stale, take
from glmstudio.doctor.report import EndResult
from glmstudio.paths import paths
from glmstudio.runs.process import Identity, alive, send, with_cookie

_POLITE = 10.0  # seconds after SIGTERM: a rank may be writing a checkpoint
_FORCED = 5.0
_ONE_AT_A_TIME = threading.Lock()


def end_stale(tokens: Sequence[str], *, polite: float = _POLITE) -> list[EndResult]:
    """End the processes behind these tokens, which `diagnose()` handed out at most a minute ago.

    Each is classified again first: one that is no longer stale, or stale for another reason, is left alone. Of our own
    runs, what they started in the meantime is ended with them.
    """
    with _ONE_AT_A_TIME:
        listed = [(token, take(token)) for token in dict.fromkeys(tokens)]
        now = {each.process.identity: each.process.kind for each in find_stale()}
        due = [each for _, each in listed if each and now.get(each.process.identity) == each.process.kind]
        _end(due, polite)
        results = [_result(token, each, each in due) for token, each in listed]
        _note(listed, results)
        return results


def _end(due: list[Listed], polite: float) -> None:
    targets = [each.process.identity for each in due]
    for target in targets:
        send(target, signal.SIGTERM)
    _wait(targets, polite)
    for cookie in {each.cookie for each in due if each.cookie}:
        targets += with_cookie(cookie)
    left = [target for target in targets if alive(target)]
    for target in left:
        send(target, signal.SIGKILL)
    _wait(left, _FORCED)


def _wait(identities: list[Identity], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(alive, identities)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _result(token: str, listed: Listed | None, was_due: bool) -> EndResult:
    if listed is None:
        return EndResult(token, None, "expired")
    identity = listed.process.identity
    if was_due:
        return EndResult(token, identity.pid, "stuck" if alive(identity) else "ended")
    return EndResult(token, identity.pid, "changed" if alive(identity) else "gone")


def _note(listed: list[tuple[str, Listed | None]], results: list[EndResult]) -> None:
    """Keep a record of what was ended, for whoever wonders later where a process went."""
    file = paths().state / "ended.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as record:
        for (_, each), result in zip(listed, results, strict=True):
            if each:
                process = each.process
                entry = {"time": time.time(), "pid": result.pid, "kind": process.kind, "command": process.command}
                record.write(json.dumps({**entry, "outcome": result.outcome}, ensure_ascii=False) + "\n")
