"""Stop a run, and prove that nothing of it is left.

A wish to stop lets the trainer finish its step, save, and leave. "Now", or a trainer that does not listen, means:
SIGTERM to torchrun once (a second one would orphan its workers), 35 seconds for its own escalation, then SIGTERM and
SIGKILL to whatever still carries the run's id.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

from glmstudio import process
from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.runs.manage import leave_queue
from glmstudio.runs.run import Run
from glmstudio.runs.start import advance
from glmstudio.units import size
from glmstudio.words import say

AGENT_GRACE = 34.0  # torchrun itself waits 30 s for workers that ignore its SIGTERM
REST_GRACE = 4.0
SAVE_GRACE = 600.0


@dataclass(frozen=True)
class Stage:
    """Where a stop is: the key of its sentence, and what fills it in."""

    key: str
    values: dict[str, str] = field(default_factory=dict)

    def text(self, lang: str = "en") -> str:
        """The stage as a sentence."""
        return say(lang, self.key, **self.values)


def stop_run(run: Run, *, now: bool = False) -> Iterator[Stage]:
    """Stop and yield each stage; the last one is the proof. A run that waits leaves the queue.

    Raises StudioError where processes remain that no signal ends.
    """
    state = run.read_state()
    if state.state == "queued":
        leave_queue(run)
        yield Stage("runs.stage.unqueued")
        return
    if not state.live:
        yield Stage("runs.stage.over")
        return
    write_json(run.path / "stop.json", {"now": now, "time": time.time()})
    held = _memory(run)
    if not now:
        yield Stage("runs.stage.saving")
        if _wait(run, SAVE_GRACE):
            yield _proof(run, held)
            return
    yield Stage("runs.stage.asking")
    agent = process.Identity.from_json(run.about.get("agent"))
    if agent is not None and process.send(agent, signal.SIGTERM):
        _wait(run, AGENT_GRACE)
    for number, stage in ((signal.SIGTERM, "runs.stage.terminating"), (signal.SIGKILL, "runs.stage.killing")):
        rest = run.processes()
        if rest:
            yield Stage(stage)
            for each in rest:
                process.send(each, number)
            _wait(run, REST_GRACE)
    yield _proof(run, held)


def _proof(run: Run, held: int) -> Stage:
    rest = run.processes()
    if rest:
        raise StudioError("runs.cannot_stop", pids=", ".join(str(each.pid) for each in rest))
    status = read_json(run.path / "status.json", {}) or {}
    if status.get("state") not in ("finished", "failed", "stopped"):
        write_json(run.path / "status.json", {"state": "stopped", "ended": time.time()})
    about = run.about
    port = about.get("port")
    free = port is None or process.port_is_free(int(port))
    stage = Stage(
        "runs.stage.gone" if free else "runs.stage.gone_port", {"port": str(port or "–"), "memory": size(held)}
    )
    write_json(run.path / "proof.json", {"run_id": about.get("run_id"), "key": stage.key, "values": stage.values})
    advance()
    return stage


def proof_of(run: Run) -> Stage | None:
    """What the stop of the run's last attempt has proven; None where it was not stopped."""
    told = read_json(run.path / "proof.json", {})
    if not isinstance(told, dict) or not told or told.get("run_id") != run.about.get("run_id"):
        return None
    return Stage(str(told["key"]), dict(told["values"]))


def _memory(run: Run) -> int:
    """The main memory that the run's processes hold, in bytes; what several of them share counts once each."""
    held = 0
    for each in run.processes():
        with contextlib.suppress(psutil.Error):
            held += psutil.Process(each.pid).memory_info().rss
    return held


def _wait(run: Run, seconds: float) -> bool:
    """Whether all processes of the run ended within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not run.processes():
            return True
        time.sleep(0.2)
    return False
