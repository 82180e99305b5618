"""The first machine's part in a run of several: it calls the roll, starts torchrun, and looks after everybody.

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
_ASK = 5.0  # seconds between two looks for who is missing
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
        self._calls = ControlServer(
            cluster, RunOffer(folder.name, str(about["run_id"]), about["settings"], known), _HERE, read_code(_HERE)
        )
        self._agent: Agent | None = None
        self._in: set[int] = set()  # the numbers of those that take part
        self._workers: set[int] = set()
        self._best, self._fruitless = -1, 0
        self._short = self._over = self._saved = 0.0

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
        self._calls.open()
        until = time.monotonic() + self._cluster.join_seconds
        self._calls.until, asked = time.time() + self._cluster.join_seconds, -_ASK
        with contextlib.closing(self._hold()):
            while not leave() and any(each.state != "joined" for each in self._calls.others):
                if time.monotonic() > until:
                    self._enough("cluster.too_few")
                    break
                if time.monotonic() - asked > _ASK:
                    self._ask_for_the_missing()
                    asked = time.monotonic()
                self._calls.sweep()
                self._calls.write()
                time.sleep(_LOOK / 2)
        self._calls.until = 0.0
        self._admit()

    def start(self, log: IO[bytes]) -> Agent:
        """Start torchrun here."""
        about = {
            "run_id": str(self._about["run_id"]), "job": str(self._about["run_id"]),
            "device": str(self._about.get("device", "cpu")), "ip": self._cluster.machines[0].ip,
        }  # fmt: skip
        self._agent = start_agent(self._cluster, 1, about, self._folder, log)
        self._calls.members[0].turn("training")
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
        self._calls.outcome, self._calls.order = outcome, "over"
        until = time.monotonic() + _LEAVE
        while time.monotonic() < until and any(each.state in (*HERE, "ended") for each in self._calls.others):
            self._calls.sweep()
            self._calls.write()
            time.sleep(0.1)
        self._calls.members[0].turn("gone")
        self._calls.close()

    def _look(self, agent: Agent) -> None:
        calls = self._calls
        if read_table(Path("stop.json")).get("now") is True and calls.order == "go":
            calls.order = "stop"
        calls.members[0].memory = agent.memory()
        for each in calls.sweep():
            each.admitted = False
        failed = next((each for each in calls.others if each.fatal and each.problem), None)
        if failed:
            raise StudioError("cluster.machine_failed", machine=failed.name, problem=failed.problem)
        admitted = {each.number for each in calls.others if each.admitted}
        if self._in - admitted and calls.order == "go":
            calls.restarts += 1
            agent.end_workers()
        self._in = admitted
        progress = read_table(Path("progress.json"))
        if not self._leaves(agent, progress):
            self._count(agent)
            if calls.order == "go" and self._may_enter(agent, progress):
                self._admit()
            self._enough("cluster.too_few_left", patience=self._cluster.join_seconds)
        calls.write()

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

    def _may_enter(self, agent: Agent, progress: dict[str, Any]) -> bool:
        """Whether who waits outside can be let in without a step being lost: before the first one, after a save."""
        if not any(each.state == "joined" and not each.admitted for each in self._calls.others):
            return False
        newest = latest(Path("checkpoints"))
        step = newest.step if newest else 0
        saved, self._saved = step > self._saved, max(self._saved, step)
        return saved or progress.get("phase") != "training" or not agent.workers() or self._missing() > 0

    def _admit(self) -> None:
        for each in self._calls.others:
            each.admitted = each.admitted or each.state == "joined"
        self._in = {each.number for each in self._calls.others if each.admitted}
        newest = latest(Path("checkpoints"))
        self._saved = max(self._saved, newest.step if newest else 0)

    def _missing(self) -> int:
        """How many machines are too few."""
        here = sum(each.state in (*HERE, "ended") for each in self._calls.others)
        return self._cluster.least - 1 - here

    def _enough(self, key: str, *, patience: float = 0.0) -> None:
        """Raise StudioError where there were too few machines for `patience` seconds, with each one's reason."""
        if self._missing() <= 0:
            self._short = 0.0
            return
        self._short = self._short or time.monotonic()
        if time.monotonic() - self._short >= patience:
            reasons = tuple(each.problem for each in self._calls.others if each.problem)
            here = self._cluster.least - self._missing()
            raise StudioError(key, least=self._cluster.least, here=here, reasons=reasons)

    def _ask_for_the_missing(self) -> None:
        """Look why they are missing, all at once: one that is off answers to nobody for seconds."""
        for each in self._calls.others:
            if each.state == "missing":
                threading.Thread(target=self._ask_for, args=(each,), daemon=True).start()

    def _ask_for(self, member: Member) -> None:
        found = why_missing(member, self._cluster.port)
        if member.state == "missing":
            member.problem = found

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
