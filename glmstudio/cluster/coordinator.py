"""The first machine's part in a run of several: it gathers the others, starts torchrun, and looks after everybody.

torchrun's own rendezvous takes machines in and drops those that are gone, but workers that wait for a machine that is
gone would wait for minutes. Whoever falls silent here is lost after some seconds: then all workers are ended, and
torchrun starts them anew with the machines that are left. They go on from the newest whole checkpoint.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from glmstudio.cluster.agent import Agent, start_agent
from glmstudio.cluster.control_server import ControlServer, RunOffer
from glmstudio.cluster.join_code import read_code
from glmstudio.cluster.member import HERE, Member, why_missing
from glmstudio.cluster.membership_events import (
    Begin,
    End,
    Event,
    Fail,
    Gather,
    Look,
    Order,
    OwnState,
    Probed,
    ProbeMissing,
    RestartWorkers,
    Wait,
)
from glmstudio.config.settings import Settings, change
from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.models import ready_model
from glmstudio.planning.training_data import training_data
from glmstudio.rundir.checkpoints import latest
from glmstudio.rundir.fingerprint import fingerprint
from glmstudio.rundir.machines import Cluster
from glmstudio.rundir.reasons import reason
from glmstudio.rundir.run import Run

_LOOK = 0.5  # seconds between two looks at everybody
_FRUITLESS = 5  # starts without a new step
_LEAVE = 20.0  # seconds in which torchrun may leave once the training has ended, and the others once they were told
_HERE = Path()


class Coordinator:
    """Of the run in `folder`, in which this process stands."""

    def __init__(self, folder: Path, about: dict[str, Any], cluster: Cluster) -> None:
        self._folder, self._about, self._cluster = folder, about, cluster
        settings = change(Settings(), about["settings"], source=str(folder / "run.json"))
        model = ready_model(settings.model).path
        known = fingerprint(settings, data=training_data(settings).sha256, model=model)
        offer = RunOffer(folder.name, str(about["run_id"]), about["settings"], known)
        self._control = ControlServer(cluster, offer, _HERE, read_code(_HERE))
        self._agent: Agent | None = None
        self._workers: set[int] = set()
        self._best, self._fruitless = -1, 0
        self._over = 0.0  # when the training had ended

    @classmethod
    def of(cls, folder: Path, about: dict[str, Any]) -> Coordinator | None:
        """For a run of several machines."""
        cluster = Cluster.from_json(about.get("cluster"))
        return cls(folder, about, cluster) if cluster else None

    @property
    def port(self) -> int:
        """Where torchrun's machines meet."""
        return self._cluster.port

    def gather(self, leave: Callable[[], bool]) -> None:
        """Wait until all machines are here, or enough of them when the time is over; not longer than `leave` says no.

        Raises StudioError where too few came, with the reason for each that is missing.
        """
        self._control.open()
        with contextlib.closing(self._hold()):
            while not leave():
                if Begin() in self._handle(Gather()):
                    break
                self._control.write()
                time.sleep(_LOOK / 2)

    def start(self, log: IO[bytes]) -> Agent:
        """Start torchrun here."""
        about = {
            "run_id": str(self._about["run_id"]), "job": str(self._about["run_id"]),
            "device": str(self._about.get("device", "cpu")), "ip": self._cluster.machines[0].ip,
        }  # fmt: skip
        self._agent = start_agent(self._cluster, 1, about, self._folder, log)
        self._handle(OwnState("training"))
        return self._agent

    def tend(self, agent: Agent) -> int:
        """Look after everybody until torchrun ends here; returns its exit status.

        Raises StudioError, with nothing left here, for what torchrun cannot tell: whom it waits for in vain, which
        machine failed and why.
        """
        try:
            while agent.code is None:
                time.sleep(_LOOK)
                self._look(agent)
        except StudioError:
            agent.end()
            raise
        return agent.code

    def dismiss(self, outcome: str) -> None:
        """Tell everybody that it is over, and wait until nothing is left there either, or nobody answers."""
        self._handle(End(outcome))
        until = time.monotonic() + _LEAVE
        while time.monotonic() < until and any(each.state in (*HERE, "ended") for each in self._control.state.others):
            self._handle(Wait())
            self._control.write()
            time.sleep(0.1)
        self._handle(OwnState("gone"))
        self._control.close()

    def _handle(self, event: Event) -> tuple[Order, ...]:
        """Let an event count. Raises StudioError where the run cannot go on."""
        orders = self._control.handle(event)
        for order in orders:
            if isinstance(order, Fail):
                raise order.problem
            if isinstance(order, RestartWorkers) and self._agent:
                self._agent.end_workers()
            if isinstance(order, ProbeMissing):  # all at once: one that is off answers to nobody for seconds
                for each in order.members:
                    threading.Thread(target=self._probe, args=(each,), daemon=True).start()
        return orders

    def _look(self, agent: Agent) -> None:
        progress = read_table(Path("progress.json"))
        leaving = self._leaves(agent, progress)
        look = Look(
            memory=agent.memory(),
            saved=_newest_step() if self._control.state.waiting else None,
            idle=progress.get("phase") != "training" or not agent.workers(),
            leaving=leaving,
            stop=read_table(Path("stop.json")).get("now") is True,
        )
        self._handle(look)
        if not leaving:
            self._count(agent)
        self._control.write()

    def _leaves(self, agent: Agent, progress: dict[str, Any]) -> bool:
        """Whether the training has ended; torchrun, which would start it anew or wait for others, is ended then."""
        over = progress.get("phase") in ("done", "stopped")
        self._over = self._over or (time.monotonic() if over else 0.0)
        if progress.get("problem") or (self._over and time.monotonic() - self._over > _LEAVE):
            agent.end()
        return bool(self._over or progress.get("problem"))

    def _count(self, agent: Agent) -> None:
        """Raise StudioError where the workers were started again and again and made no step."""
        pids = {each.pid for each in agent.workers()}
        if not pids or pids & self._workers:
            return
        self._workers = pids
        rows, _ = Run(self._folder.name, _HERE).metrics()
        step = max((int(row.get("step", 0)) for row in rows), default=0)
        self._fruitless = 0 if step > self._best else self._fruitless + 1
        self._best = max(self._best, step)
        if self._fruitless > _FRUITLESS:
            found = reason(self._folder / "train.log")
            raise StudioError("cluster.fruitless", times=_FRUITLESS, reason=found)

    def _probe(self, member: Member) -> None:
        self._control.handle(Probed(member.number, why_missing(member, self._cluster.port)))

    def _hold(self) -> socket.socket:
        """Listen at torchrun's port until it comes itself: nobody else takes it, and who joins can try to reach it."""
        address = (self._cluster.machines[0].ip, self._cluster.port)
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(address)
        except OSError as error:
            holder.close()
            raise StudioError("cluster.port_taken", port=address[1], given=address[1]) from error
        holder.listen(64)
        return holder


def _newest_step() -> int:
    newest = latest(Path("checkpoints"))
    return newest.step if newest else 0
