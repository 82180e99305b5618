"""`run.json`: what a run was asked for, where it trains, and who carries it now; and how a run's files are called."""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glmstudio.files import read_table, write_json
from glmstudio.rundir.machines import Cluster
from glmstudio.system.process import Identity, boot_id
from glmstudio.untrusted import items, number, table

_SCHEMA = 2


class RunFiles:
    """What lies in a run's folder, and who writes it."""

    RECORD = "run.json"  # what was asked: preset, settings, data, command; who carries it   (start, supervisor)
    STATUS = "status.json"  # queued, starting, running, finished, failed, stopped           (start, supervisor)
    PROGRESS = "progress.json"  # phase and time: the trainer's heartbeat                    (trainer)
    METRICS = "metrics.jsonl"  # one line for each step and each validation                  (trainer)
    RANKS = "ranks.jsonl"  # of several processes, a line for each every ten steps           (trainer)
    SAMPLES = "samples.jsonl"  # what the model said at each save                            (trainer)
    RECORDS = "records.json"  # how many conversations are used, fixed, cut and left out     (trainer)
    OPENING = "opening.json"  # ids that its first conversation begins with                  (trainer)
    ENVIRONMENT = "environment.json"  # versions, GPU and model                              (trainer)
    EXAM = "exam.json"  # of a run that is taught facts, what it must keep                   (trainer)
    SCORE = "score"  # a folder: what was asked of the result, and what it answered          (knowledge)
    SCORE_LOG = "score.log"  # what the process printed that asked                           (supervisor)
    TRACKER = "tracker.json"  # why W&B, SwanLab or trackio do not get the figures           (tracking)
    PROMPTS = "prompts.json"  # its owner's test questions, with the last answers             (chat)
    NOTES = "notes.json"  # what its owner wrote about it                                    (manage)
    LOG = "train.log"  # what the processes printed
    STOP = "stop.json"  # a wish to stop                                                     (stop)
    PROOF = "proof.json"  # what a stop left: no process, a free port, the memory it gave back (stop)
    BALLAST = "ballast"  # room on the disk for the last words of a run whose disk is full   (start)
    CHECKPOINTS = "checkpoints"  # a folder
    RESULT = "result"  # a folder: an adapter, or after full fine-tuning a whole model


@dataclass(frozen=True)
class Placement:
    """Where a run trains: "cpu" or its GPUs (`glmstudio.config.devices`), by how many processes on this machine, and
    the mark of the folder that it was started in."""

    device: str = "cpu"
    processes: int = 1
    folder_mark: str | None = None

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Placement:
        """What `run.json` says of it."""
        processes = max(1, int(number(told.get("processes"), 1)))
        return cls(_text(told.get("device"), "cpu"), processes, _known(told.get("place"), str))


@dataclass(frozen=True)
class Attempt:
    """One start of a run. `run_id` is carried by each of its processes; `boot` and `monotonic` say when it was, by a
    clock that nobody can set back. `port`: where several machines meet."""

    run_id: str = ""
    boot: str | None = None
    monotonic: float | None = None
    launched: float | None = None
    supervisor: Identity | None = None
    agent: Identity | None = None
    argv: tuple[str, ...] = ()
    port: int | None = None

    @classmethod
    def new(cls, *, launched: float | None = None) -> Attempt:
        """An attempt that begins now."""
        return cls(uuid.uuid4().hex, boot_id(), time.monotonic(), launched)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Attempt:
        """What `run.json` says of the last one."""
        return cls(
            run_id=_text(told.get("run_id"), ""),
            boot=_known(told.get("boot"), str),
            monotonic=_number(told.get("monotonic")),
            launched=_number(told.get("launched")),
            supervisor=Identity.from_json(told.get("supervisor")),
            agent=Identity.from_json(told.get("agent")),
            argv=tuple(str(part) for part in items(told.get("argv"))),
            port=_known(told.get("port"), int),
        )


@dataclass(frozen=True)
class RunRecord:
    """`run.json`. `resume` names the checkpoint to go on from; `resumed` and `branched_from` say where it went on
    before; a `probe` only measures a few steps."""

    preset: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0
    command: str = ""
    warm_start: str | None = None
    cluster: Cluster | None = None
    resume: str | None = None
    resumed: tuple[dict[str, Any], ...] = ()
    branched_from: dict[str, Any] | None = None
    probe: bool = False
    placement: Placement = Placement()
    attempt: Attempt = Attempt()

    @classmethod
    def from_json(cls, data: Any) -> RunRecord:
        """What `to_json` wrote; of a damaged or edited file, what can be believed."""
        told = table(data)
        return cls(
            preset=_text(told.get("preset"), ""),
            settings=table(told.get("settings")),
            created=number(told.get("created")),
            command=_text(told.get("command"), ""),
            warm_start=_known(told.get("warm_start"), str),
            cluster=Cluster.from_json(told.get("cluster")),
            resume=_known(told.get("resume"), str),
            resumed=tuple(map(table, items(told.get("resumed")))),
            branched_from=_known(told.get("branched_from"), dict),
            probe=told.get("probe") is True,
            placement=Placement.from_json(told),
            attempt=Attempt.from_json(told),
        )

    def to_json(self) -> dict[str, Any]:
        """The form of `run.json`; what is not known is left out."""
        attempt, placement = self.attempt, self.placement
        optional = {
            "cluster": self.cluster.to_json() if self.cluster else None,
            "branched_from": self.branched_from,
            "probe": self.probe or None,
            "boot": attempt.boot,
            "monotonic": attempt.monotonic,
            "launched": attempt.launched,
            "place": placement.folder_mark,
            "supervisor": attempt.supervisor.to_json() if attempt.supervisor else None,
            "agent": attempt.agent.to_json() if attempt.agent else None,
            "argv": list(attempt.argv) or None,
            "port": attempt.port,
        }
        return {
            "schema": _SCHEMA,
            "preset": self.preset,
            "settings": self.settings,
            "device": placement.device,
            "processes": placement.processes,
            "warm_start": self.warm_start,
            "created": self.created,
            "command": self.command,
            "run_id": attempt.run_id,
            **({"resume": self.resume, "resumed": list(self.resumed)} if self.resume or self.resumed else {}),
            **{name: value for name, value in optional.items() if value is not None},
        }

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record of the run in `folder`; an empty one where it is gone."""
        return cls.from_json(read_table(folder / RunFiles.RECORD))

    def write(self, folder: Path) -> None:
        """Write it down; never makes the folder. Raises OSError."""
        write_json(folder / RunFiles.RECORD, self.to_json(), parents=False)


def folder_mark(folder: Path) -> str | None:
    """What tells a folder from a copy of it, and stays when it is moved on its disk."""
    with contextlib.suppress(OSError, ValueError):  # a name out of a file may be none
        stat = folder.stat()
        return f"{stat.st_dev}:{stat.st_ino}"
    return None


def _known(value: Any, kind: type) -> Any:
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _text(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) else otherwise


def _number(value: Any) -> float | None:
    known = number(value, -1)
    return None if known < 0 else known
