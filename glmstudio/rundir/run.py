"""A run is a directory. Whoever reads it sees the same truth, whatever became of the studio that started it.

Its files are listed in `glmstudio.rundir.record.RunFiles`.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glmstudio import untrusted
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.jsonl import bytes_from, rows_from
from glmstudio.paths import paths
from glmstudio.rundir.copies import is_copy
from glmstudio.rundir.queue_file import waiting
from glmstudio.rundir.record import RunFiles, RunRecord
from glmstudio.rundir.state import Liveness, RunReading, RunState, rebooted, state_of
from glmstudio.system import process

_TAIL = 8192
_gone: set[str] = set()  # run ids of which nothing is left


@dataclass(frozen=True)
class Run:
    """One run directory. Reading it never changes it."""

    name: str
    path: Path

    @property
    def record(self) -> RunRecord:
        """`run.json`; an empty record where it is gone."""
        return RunRecord.read(self.path)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that it was started with; empty where nobody can read them."""
        return self.record.settings

    @property
    def learned_tools(self) -> bool | None:
        """Whether conversations that it learned from tell the model of tools; None where nobody has counted them."""
        count = read_table(self.path / RunFiles.RECORDS).get("with_tools")
        return count > 0 if isinstance(count, int) else None

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.settings.get("model", ""))

    @property
    def data(self) -> str:
        """The dataset's path."""
        return str(self.settings.get("data", ""))

    @property
    def device(self) -> str:
        """Where it trains: "cpu", or its GPUs (`glmstudio.config.devices`)."""
        return self.record.placement.device

    @property
    def result(self) -> Path | None:
        """What was learned, once it is written: an adapter, or after full fine-tuning a whole model."""
        folder = self.path / RunFiles.RESULT
        return folder if any((folder / name).is_file() for name in ("adapter.json", "config.json")) else None

    @property
    def is_whole_model(self) -> bool:
        """Whether the result is a model of its own, not an adapter of its base."""
        return self.settings.get("method") == "full"

    def read_state(self) -> RunState:
        """The run's state from its files and its processes."""
        record, files = self.record, self._read()
        if files.ended:
            return state_of(record, files, Liveness())
        life = self._liveness(record, queued=files.queued)
        if not (life.alive or files.queued):
            files = self._read()  # its supervisor may have written the end meanwhile
        return state_of(record, files, life)

    def metrics(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The steps and validations written since byte `offset`, and the next offset. Costs only what is new."""
        rows, end = rows_from(self.path / RunFiles.METRICS, offset)
        return [row for row in map(untrusted.numbers, rows) if row], end

    def ranks(self) -> list[dict[str, Any]]:
        """Of a run of several processes, the last figures of each, by rank: step, machine, memory in bytes, seconds of
        a step for reading and for computing."""
        try:
            size = (self.path / RunFiles.RANKS).stat().st_size
        except OSError:
            return []
        rows, _ = rows_from(self.path / RunFiles.RANKS, max(0, size - _TAIL))
        newest = {
            int(untrusted.number(row.get("rank"))): untrusted.numbers(row) | {"machine": str(row.get("machine"))}
            for row in rows
        }
        return [newest[rank] for rank in sorted(newest)]

    def samples(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """What the model said at the saves since byte `offset`, and the next offset."""
        rows, end = rows_from(self.path / RunFiles.SAMPLES, offset)
        return [row | untrusted.numbers(row) for row in rows if untrusted.numbers(row)], end

    def log(self, offset: int = 0) -> tuple[str, int]:
        """What was printed since byte `offset`, and the next offset."""
        data = bytes_from(self.path / RunFiles.LOG, offset)
        return data.decode("utf-8", errors="replace"), offset + len(data)

    def processes(self) -> list[process.Identity]:
        """Every process that carries this run's id."""
        record = self.record
        cookie = record.attempt.run_id
        return process.with_cookie(cookie) if cookie and not is_copy(self.path, record) else []

    def has_processes(self) -> bool:
        """Whether anything of it runs. Once an attempt has nothing left, nothing of it can come back: so a run that
        was lost long ago does not cost a look at every process of the machine at each poll."""
        attempt = self.record.attempt
        if attempt.run_id in _gone:
            return False
        if self.processes():
            return True
        if attempt.supervisor is not None and not process.alive(attempt.supervisor):
            _gone.add(attempt.run_id)
        return False

    def _read(self) -> RunReading:
        status, progress = read_table(self.path / RunFiles.STATUS), read_table(self.path / RunFiles.PROGRESS)
        reading = RunReading(status, progress, self._last_row())
        if reading.ended:  # nothing else counts, and a page looks each second
            return reading
        return replace(
            reading,
            queued=self.path.name in waiting(),
            stop_asked=(self.path / RunFiles.STOP).exists(),
            has_result=self.result is not None,
        )

    def _liveness(self, record: RunRecord, *, queued: bool) -> Liveness:
        attempt, boot_id, now = record.attempt, process.boot_id(), time.monotonic()
        if is_copy(self.path, record):
            return Liveness(copied=True, boot_id=boot_id, now=now)
        if queued:  # nothing of it was started, and looking for it would cost a look at every process
            return Liveness(boot_id=boot_id, now=now)
        alive = process.alive(attempt.supervisor) or process.alive(attempt.agent)
        alive = alive or (not rebooted(attempt, boot_id) and self.has_processes())
        return Liveness(alive, boot_id=boot_id, now=now)

    def _last_row(self) -> dict[str, Any]:
        file = self.path / RunFiles.METRICS
        try:
            size = file.stat().st_size
        except OSError:
            return {}
        rows, _ = self.metrics(max(0, size - _TAIL))
        merged: dict[str, Any] = {}
        for row in rows:
            merged |= row
        return merged


def run_names() -> list[str]:
    """What lies in the folder of runs, in no order."""
    try:
        return os.listdir(paths().runs)  # noqa: PTH208  plain names: a page looks each second, at thousands
    except OSError:
        return []


def every_run() -> list[Run]:
    """Every run, in no order."""
    folder = paths().runs
    return [Run(name, folder / name) for name in run_names() if os.path.lexists(f"{folder}/{name}/run.json")]


def list_runs() -> list[Run]:
    """Every run, newest first."""
    return sorted(every_run(), key=lambda run: run.record.created, reverse=True)


def find_run(name: str) -> Run:
    """The run of that name. Raises StudioError."""
    run = Run(name, paths().runs / name)
    # `os.path.isfile` never raises, whatever the name.
    if name in ("", ".", "..") or "/" in name or "\\" in name or not os.path.isfile(run.path / RunFiles.RECORD):  # noqa: PTH113
        raise StudioError("runs.unknown", name=name)
    return run


def wait_for_end(run: Run, *, seconds: float, every: float = 0.2) -> RunState:
    """The run's last state once nothing of it lives, or its state after `seconds`."""
    end = time.monotonic() + seconds
    while (state := run.read_state()).live and time.monotonic() < end:
        time.sleep(every)
    return state


def last_word(folder: Path, name: str, value: Any) -> None:
    """Write a run's file although the disk may be full: then the ballast makes room. Never makes the folder."""
    try:
        write_json(folder / name, value, parents=False)
    except OSError:
        (folder / RunFiles.BALLAST).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            write_json(folder / name, value, parents=False)


def wait_until_gone(run: Run, seconds: float = 5.0) -> bool:
    """Whether nothing of the run is left within `seconds`: what has told its end is given a moment to leave."""
    end = time.monotonic() + seconds
    while run.processes():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
