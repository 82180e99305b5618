"""Stop a run, and prove that nothing of it is left.

A wish to stop lets the trainer finish its step, save, and leave. "Now", or a trainer that does not listen, means:
SIGTERM to torchrun once (a second one would orphan its workers), 35 seconds for its own escalation, then SIGTERM and
SIGKILL to whatever still carries the run's id.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psutil

from glmstudio.cluster.view import read_cluster
from glmstudio.errors import LazyText, StudioError
from glmstudio.files import read_table, write_json
from glmstudio.paths import paths
from glmstudio.rundir import queue_file
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run
from glmstudio.runs.manage import leave_queue
from glmstudio.runs.start import advance
from glmstudio.system import process
from glmstudio.system.portable.signals import CONTINUE, KILL, TERMINATE
from glmstudio.units import memory_bytes
from glmstudio.untrusted import table

AGENT_GRACE = 34.0  # torchrun itself waits 30 s for workers that ignore its SIGTERM
REST_GRACE = 4.0
SAVE_GRACE = 600.0
PORT_GRACE = 2.0


def stop_run(run: Run, *, now: bool = False) -> Iterator[LazyText]:
    """Stop and yield each stage; the last one is the proof. A run that waits leaves the queue.

    Raises StudioError where processes remain that no signal ends.
    """
    state = run.read_state()
    if state.state == "queued":
        leave_queue(run)
        yield LazyText("runs.stage.unqueued")
        return
    if not state.live:
        yield LazyText("runs.stage.over")
        return
    yield from _Stop(run).stages(now=now)


def stop_now(name: str) -> None:
    """Stop the run of this name at once, without a word about each stage. Raises StudioError."""
    for _ in stop_run(Run(name, paths().runs / name), now=True):
        pass


def proof_of(run: Run) -> LazyText | None:
    """What the stop of the run's last attempt has proven; None where it was not stopped."""
    told = read_table(run.path / RunFiles.PROOF)
    stage = LazyText(str(told.get("key")), table(told.get("values")))
    with contextlib.suppress(KeyError, ValueError):  # words that are not known here
        return stage if told.get("run_id") == run.record.attempt.run_id and stage.text() else None
    return None


class _Stop:
    """Ends one attempt of a run: another one that begins in the meantime is none of its business."""

    def __init__(self, run: Run) -> None:
        self._run, self._attempt = run, run.record.attempt
        self._id = self._attempt.run_id
        self._asked_before = read_table(run.path / RunFiles.STOP).get("now") is True

    def stages(self, *, now: bool) -> Iterator[LazyText]:
        with contextlib.suppress(FileNotFoundError):  # its folder was moved away; its processes may still be there
            told = {"now": now or self._asked_before, "time": time.time()}
            write_json(self._run.path / RunFiles.STOP, told, parents=False)
        held = _memory(self._rest())
        self._signal(CONTINUE)  # who is suspended hears nothing
        if not now:
            yield LazyText("runs.stage.saving")
            if self._wait(SAVE_GRACE):
                yield self._proof(held)
                return
        yield LazyText("runs.stage.asking")
        agent = self._run.record.attempt.agent
        if agent is not None and (self._asked_before or process.send(agent, TERMINATE)):
            self._wait(AGENT_GRACE)
        for number, stage in ((TERMINATE, "runs.stage.terminating"), (KILL, "runs.stage.killing")):
            if self._rest():
                yield LazyText(stage)
                self._signal(number)
                self._wait(REST_GRACE)
        yield self._proof(held)

    def _rest(self) -> list[process.Identity]:
        return process.with_cookie(self._id)

    def _signal(self, number: int | None) -> None:
        for each in self._rest():
            process.send(each, number)

    def _wait(self, seconds: float) -> bool:
        """Whether all processes ended within `seconds`."""
        end = time.monotonic() + seconds
        while self._rest():
            if time.monotonic() > end:
                return False
            time.sleep(0.2)
        return True

    def _proof(self, held: int) -> LazyText:
        if rest := self._rest():
            raise StudioError("runs.cannot_stop", pids=", ".join(str(each.pid) for each in rest))
        with queue_file.turn():
            attempt = self._run.record.attempt
            same = attempt.run_id == self._id
            port = (attempt if same else self._attempt).port  # of several machines; those of one have none
            free = port is None or _becomes_free(port)
            key = "runs.stage.gone" if free else "runs.stage.gone_port"
            stage = _with_machines(self._run, LazyText(key, {"port": str(port or "–"), "memory": memory_bytes(held)}))
            if same:
                proof = {"processes": 0, "port": port, "port_free": free, "memory": held, "time": time.time()}
                said = {"run_id": self._id, "key": stage.key, "values": stage.values}
                write_json(self._run.path / RunFiles.PROOF, proof | said, parents=False)
                # Nobody was left to write down how it ended; one that was hardly born still passes for starting.
                if self._run.read_state().state not in ("finished", "failed", "stopped"):
                    write_json(self._run.path / RunFiles.STATUS, {"state": "stopped", "ended": time.time()})
        advance()
        return stage


def _with_machines(run: Run, stage: LazyText) -> LazyText:
    """The proof of a run of several machines says what became of the others."""
    view = read_cluster(run)
    if view is None:
        return stage
    left = ", ".join(f"{each.number} ({each.host or each.address})" for each in view.left_behind)
    key = "cluster.stage.gone_but" if left else "cluster.stage.gone"
    return LazyText(key, {**stage.values, "count": str(len(view.machines)), "left": left})


def _becomes_free(port: int) -> bool:
    """Whether the port is free: the threads of a process that was just killed may hold it for a moment."""
    end = time.monotonic() + PORT_GRACE
    while not process.port_is_free(port):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _memory(processes: list[process.Identity]) -> int:
    """The main memory that the processes hold, in bytes; what several of them share counts once each."""
    held = 0
    for each in processes:
        with contextlib.suppress(psutil.Error):
            held += psutil.Process(each.pid).memory_info().rss
    return held
