"""A machine that joins a run of another one: it shows that it fits, waits for its turn, and does its part.

It answers for all that it starts: that ends with it, however it ends. Its files lie in `joined/<run>-<number>/` of this
studio's home, apart from the runs that this machine owns.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio import untrusted
from glmstudio.cluster.agent import Agent, start_agent
from glmstudio.cluster.control_server import BODY, CODE_HEADER
from glmstudio.cluster.member import why_closed
from glmstudio.config.devices import choose
from glmstudio.config.settings import Settings, change
from glmstudio.errors import LazyText, StudioError
from glmstudio.files import read_table, write_json
from glmstudio.jsonl import bytes_from
from glmstudio.models import ready_model
from glmstudio.paths import paths
from glmstudio.planning.training_data import training_data
from glmstudio.rundir.fingerprint import fingerprint
from glmstudio.rundir.machines import JOIN_SECONDS, Cluster
from glmstudio.rundir.reasons import by_signal, reason
from glmstudio.system.portable.signals import HANG_UP

_EVERY = 1.0  # seconds between two messages
_CUT_OFF = 10.0  # seconds without an answer after which this machine ends its part
_ANSWER = 4.0
_LOG = 32 << 10  # bytes of the log in one message
_PASSING = ("cluster.number_taken", "cluster.run_over")  # the first machine has not noticed yet that it was left
_PASSES = 20.0

Tell = Callable[[LazyText], None]


@dataclass(frozen=True)
class JoinRequest:
    """With what a machine joins; empty means: as the first machine says."""

    address: str
    port: int
    code: str
    machine: int | None = None
    data: str = ""
    model: str = ""
    validation: str = ""
    device: str = "auto"


class ConnectionLost(Exception):
    """The first machine does not answer."""


class Joiner:
    """One machine's part, from the first message to the end. `tell` hears each stage. `refuse_held` raises StudioError
    where a device is taken by others on this machine."""

    def __init__(self, wish: JoinRequest, tell: Tell, refuse_held: Callable[[str], None]) -> None:
        self._wish, self._tell, self._refuse_held = wish, tell, refuse_held
        self._token = uuid.uuid4().hex
        self._number: int | None = wish.machine
        self._patience = float(JOIN_SECONDS)
        self._told = 0  # the signal that ends it
        self._agent: Agent | None = None
        self._folder = Path()
        self._said = 0  # bytes of the log that the first machine has
        self._ip = self._job = ""
        self._begun = 0
        self._heard = 0.0  # when the first machine spoke last

    def run(self) -> str:
        """Do this machine's part until the run is over; returns how it ended: finished, stopped, failed, left.

        Raises StudioError where this machine does not fit, and where the first one stays away for too long.
        """
        for number in filter(None, (signal.SIGINT, signal.SIGTERM, HANG_UP)):
            signal.signal(number, self._end)
        outcome, refused = "", 0.0
        self._heard = time.monotonic()
        try:
            while not outcome:
                if self._told:
                    return "left"
                try:
                    cluster = self._join()
                    refused = 0.0
                    outcome = self._take_part(cluster)
                except ConnectionLost as error:
                    if time.monotonic() - self._heard > self._patience:
                        raise StudioError("cluster.first_gone", address=self._wish.address) from error
                    time.sleep(_EVERY)
                except StudioError as problem:
                    refused = refused or time.monotonic()
                    if problem.key not in _PASSING or time.monotonic() - refused > _PASSES:
                        raise
                    time.sleep(_EVERY)
        finally:
            self._leave()
        return outcome

    def _end(self, number: int, _: Any) -> None:
        self._told = number

    def _join(self) -> Cluster:
        """Show that this machine fits. Raises StudioError and ConnectionLost."""
        about = self._post("/join", {})
        cluster = Cluster.from_json(about.get("cluster"))
        number = about.get("machine")
        if cluster is None or not isinstance(number, int) or not 1 < number <= len(cluster.machines):
            raise StudioError("cluster.not_understood")
        self._number, self._patience, self._job = number, float(cluster.join_seconds), str(about.get("job"))
        self._reach(cluster)
        settings = self._settings(untrusted.table(about.get("settings")), cluster.machines[number - 1].processes)
        device = choose(settings.device, settings.processes)
        self._refuse_held(device)
        model = ready_model(settings.model).path
        known = fingerprint(settings, data=training_data(settings).sha256, model=model)
        with socket.socket() as ear:
            ear.bind((self._ip, 0))
            ear.listen()
            listens = ear.getsockname()[1]
            self._post("/join", {"facts": known, "host": socket.gethostname(), "listens": listens})
        self._make_folder(str(about.get("run")), settings, device, cluster)
        self._tell(LazyText("cluster.stage.joined", {"run": str(about.get("run")), "number": str(number)}))
        return cluster

    def _reach(self, cluster: Cluster) -> None:
        """Raise StudioError where torchrun's port on the first machine cannot be reached; it may open in a moment."""
        until = time.monotonic() + _PASSES
        while found := why_closed(self._wish.address, cluster.port):
            if self._told or found != "refused" or time.monotonic() > until:
                raise StudioError("cluster.port_closed", address=self._wish.address, port=cluster.port)
            time.sleep(_EVERY)

    def _settings(self, given: dict[str, Any], processes: int) -> Settings:
        """The first machine's settings with what is this machine's own. Raises StudioError."""
        wish = self._wish
        own: dict[str, Any] = {"device": wish.device, "processes": processes}
        for name in ("data", "model", "validation"):
            if value := getattr(wish, name):
                folder = name == "model" and not Path(value).expanduser().is_dir()
                own[name] = value if folder else str(Path(value).expanduser().resolve())
        return change(Settings(), given | own, source=wish.address)

    def _make_folder(self, run: str, settings: Settings, device: str, cluster: Cluster) -> None:
        name = re.sub(r"[^\w-]", "_", run)[:60] or "run"  # what came over the network names no path
        self._folder = paths().joined / f"{name}-{self._number}"
        self._folder.mkdir(parents=True, exist_ok=True)
        run_id = read_table(self._folder / "run.json").get("run_id") or uuid.uuid4().hex
        warm = {"warm_start": str(self._folder / "warm")} if settings.warm_start else {}
        about: dict[str, Any] = {
            "run_id": run_id,
            "settings": vars(settings),
            "device": device,
            "processes": settings.processes,
        }
        about |= {"machine": self._number, "cluster": cluster.to_json()} | warm
        write_json(self._folder / "run.json", about)

    def _take_part(self, cluster: Cluster) -> str:
        """Do as the first machine says; returns how the run ended, "" where this machine has to join anew."""
        restarts, news = None, {"state": "joined"}
        while not self._told:
            try:
                answer = self._news(news)
            except ConnectionLost:
                if time.monotonic() - self._heard > _CUT_OFF:
                    self._tell(LazyText("cluster.stage.cut", {"address": self._wish.address}))
                    self._end_agent()
                    raise
                time.sleep(_EVERY / 2)
                continue
            order = answer.get("order")
            if order in ("stop", "over"):
                outcome = answer.get("outcome")
                return outcome if outcome in ("finished", "failed") else "stopped"
            if order == "join":
                self._end_agent()
                return ""
            if self._agent and restarts is not None and answer.get("restarts") != restarts:
                self._tell(LazyText("cluster.stage.restart"))
                self._agent.end_workers()
            restarts = answer.get("restarts")
            if order == "go" and self._agent is None and news["state"] != "ended":
                self._begin(cluster)
            news = self._state(news)
            time.sleep(_EVERY)
        return "left"

    def _begin(self, cluster: Cluster) -> None:
        about = read_table(self._folder / "run.json")
        job = {"run_id": str(about["run_id"]), "device": str(about["device"]), "ip": self._ip}
        job["job"] = self._job
        (self._folder / "progress.json").unlink(missing_ok=True)  # what it told of an earlier start
        self._begun = self._size()
        with (self._folder / "train.log").open("ab") as log:
            self._agent = start_agent(cluster, self._number or 0, job, self._folder, log)
        self._tell(LazyText("cluster.stage.training"))

    def _state(self, before: dict[str, Any]) -> dict[str, Any]:
        """What there is to say of this machine's torchrun."""
        if self._agent is None:
            return {"state": "ended" if before["state"] == "ended" else "joined"}
        code = self._agent.code
        if code is None:
            return {"state": "training"}
        self._end_agent()
        if code == 0:
            return {"state": "ended"}
        own = untrusted.problem(read_table(self._folder / "progress.json").get("problem"))
        found = own or (by_signal(-code) if code < 0 else reason(self._folder / "train.log", self._begun))
        return {"state": "failed", "problem": found.to_json(), "fatal": own is not None}

    def _news(self, news: dict[str, Any]) -> dict[str, Any]:
        """Say how it goes, with what was printed since; returns what the first machine says to that."""
        data = bytes_from(self._folder / "train.log", self._said)[:_LOG]
        memory = self._agent.memory() if self._agent else 0
        answer = self._post("/news", news | {"memory": memory, "log": data.decode("utf-8", "replace")})
        self._said += len(data)
        return answer

    def _size(self) -> int:
        try:
            return (self._folder / "train.log").stat().st_size
        except OSError:
            return 0

    def _end_agent(self) -> None:
        if self._agent:
            self._agent.end()
            self._agent = None

    def _leave(self) -> None:
        """End all that this machine does for the run, and say so."""
        begun = self._folder != Path()
        self._end_agent()
        if begun:
            try:
                self._news({"state": "gone"})
            except (ConnectionLost, StudioError):
                return

    def _post(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        """What the first machine replies. Raises ConnectionLost where it is silent, StudioError where it refuses."""
        wish = self._wish
        whole = {"machine": self._number, "token": self._token} | message
        line = http.client.HTTPConnection(wish.address, wish.port, timeout=_ANSWER)
        try:
            line.connect()
            self._ip = line.sock.getsockname()[0]
            line.request("POST", path, json.dumps(whole), {CODE_HEADER: wish.code, "Content-Type": "application/json"})
            answer = line.getresponse()
            found = json.loads(answer.read(BODY))
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionLost(os.strerror(getattr(error, "errno", 0) or 0)) from error
        except (ValueError, RecursionError) as error:
            raise StudioError("cluster.not_understood") from error
        finally:
            line.close()
        if not isinstance(found, dict):
            raise StudioError("cluster.not_understood")
        self._heard = time.monotonic()
        if answer.status != 200:
            raise untrusted.problem(found.get("problem")) or StudioError("cluster.not_understood")
        return found
