"""One machine's part in a run of several: its torchrun, the workers below it, and how they are ended."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import IO

import psutil

from glmstudio.paths import ROOT, paths
from glmstudio.rundir.launch import cluster_line, training_environment
from glmstudio.rundir.machines import Cluster
from glmstudio.system import process
from glmstudio.system.die_with_parent import on_leash
from glmstudio.system.portable.signals import KILL

_POLITE, _HARD = 8.0, 4.0  # seconds for torchrun to end its workers; for the system to end what was killed


def start_agent(cluster: Cluster, number: int, about: dict[str, str], folder: Path, log: IO[bytes]) -> Agent:
    """Start torchrun as machine `number`; `about`: its run id (`run_id`), the job's (`job`), its `device` and `ip`.

    To be called by the main thread: torchrun ends with it.
    """
    machine = cluster.machines[number - 1]
    argv = cluster_line(cluster, number, about["job"], about["ip"], str(folder))
    variables = training_environment(about["device"], machine.processes, about["ip"])
    # The store that torchrun would share is announced in the first round only: who comes later would wait for ever.
    variables |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", process.COOKIE: about["run_id"]}
    variables["GLMSTUDIO_HOME"] = str(paths().home)
    child = subprocess.Popen(
        on_leash(argv),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=ROOT,
        env=variables,
        start_new_session=True,
    )
    return Agent(child, argv, about["run_id"])


class Agent:
    """A torchrun that this process started."""

    def __init__(self, child: subprocess.Popen[bytes], argv: list[str], run_id: str) -> None:
        self.child, self.argv, self._run_id = child, argv, run_id

    @property
    def code(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.child.poll()

    def workers(self) -> list[process.Identity]:
        """The training processes that it started."""
        try:
            children = psutil.Process(self.child.pid).children()
        except psutil.Error:
            return []
        mine = (each.pid for each in children if process.environment(each.pid).get(process.COOKIE) == self._run_id)
        return [each for pid in mine if (each := process.identify(pid))]

    def end_workers(self) -> None:
        """End the training processes, which may wait for a machine that is gone; torchrun starts them anew."""
        for each in self.workers():
            process.send(each, KILL)

    def memory(self) -> int:
        """Bytes of main memory that the workers hold."""
        held = 0
        for each in self.workers():
            try:
                held += psutil.Process(each.pid).memory_info().rss
            except psutil.Error:
                continue
        return held

    def end(self, polite: float = _POLITE) -> None:
        """End it and all below it; returns once nothing of it is left, or after some seconds."""
        if self.code is None:
            self.child.terminate()
        until = time.monotonic() + polite
        while self._rest() and time.monotonic() < until:
            time.sleep(0.1)
        until = time.monotonic() + _HARD
        while (rest := self._rest()) and time.monotonic() < until:
            for each in rest:
                process.send(each, KILL)
            time.sleep(0.1)

    def _rest(self) -> list[process.Identity]:
        self.child.poll()
        return [each for each in process.with_cookie(self._run_id) if each.pid != os.getpid()]
