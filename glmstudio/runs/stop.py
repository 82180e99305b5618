"""Stop a run, and prove that nothing of it is left.

A wish to stop lets the trainer finish its step, save, and leave. "Now", or a trainer that does not listen, means:
SIGTERM to torchrun once (a second one would orphan its workers), 35 seconds for its own escalation, then SIGTERM and
SIGKILL to whatever still carries the run's id.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

from glmstudio import process
from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.runs.run import Run

AGENT_GRACE = 35.0
REST_GRACE = 5.0
SAVE_GRACE = 600.0


def stop_run(run: Run, *, now: bool = False) -> Iterator[str]:
    """Stop and yield the key of each stage's sentence (`runs.stage.*`); the last one is the proof.

    Raises StudioError where processes remain that no signal ends.
    """
    if not run.read_state().live:
        yield "runs.stage.over"
        return
    write_json(run.path / "stop.json", {"now": now, "time": time.time()})
    if not now:
        yield "runs.stage.saving"
        if _wait(run, SAVE_GRACE):
            yield from _proof(run)
            return
    yield "runs.stage.asking"
    agent = process.Identity.from_json(run.about.get("agent"))
    if agent is not None and process.send(agent, signal.SIGTERM):
        _wait(run, AGENT_GRACE)
    for number, stage in ((signal.SIGTERM, "runs.stage.terminating"), (signal.SIGKILL, "runs.stage.killing")):
        rest = run.processes()
        if rest:
            yield stage
            for each in rest:
                process.send(each, number)
            _wait(run, REST_GRACE)
    yield from _proof(run)


def _proof(run: Run) -> Iterator[str]:
    rest = run.processes()
    if rest:
        raise StudioError("runs.cannot_stop", pids=", ".join(str(each.pid) for each in rest))
    status = read_json(run.path / "status.json", {}) or {}
    if status.get("state") not in ("finished", "failed", "stopped"):
        write_json(run.path / "status.json", {"state": "stopped", "ended": time.time()})
    port = run.about.get("port")
    yield "runs.stage.gone" if port is None or process.port_is_free(int(port)) else "runs.stage.gone_port"


def _wait(run: Run, seconds: float) -> bool:
    """Whether all processes of the run ended within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not run.processes():
            return True
        time.sleep(0.2)
    return False
