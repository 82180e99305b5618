"""What a run says of itself while it goes on: the lines that the studio reads, and its heartbeat.

Of several processes only the first writes; it knows of the others what `step_made` has gathered.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from glmstudio.errors import StudioError
from glmstudio.files import read_text, write_json
from glmstudio.system import process
from glmstudio.system.portable.limits import peak_memory
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.distributed.straggler import SPAN, Stopwatch, slowest

_HEARTBEAT = 2.0


class RunReporter:
    """Writes `progress.json`, `metrics.jsonl` and `ranks.jsonl` of the run directory `folder`.

    Never makes that directory: one that was moved away while the run went on must not come back as a ghost.
    """

    def __init__(self, folder: Path, steps: int, context: DistributedContext) -> None:
        self._folder, self._steps, self._context = folder, steps, context
        self.stopwatch = Stopwatch()
        self._spans: list[list[list[float]]] = []  # of each step since the last comparison, each rank's seconds
        self._machines: list[str] = []
        self._slow: StudioError | None = None
        self._tokens = 0
        self._began = self._mark = time.monotonic()
        self._before = _seconds_before(folder)
        self._beat = 0.0
        self.step = 0
        self.loss: float | None = None
        self.validation_loss: float | None = None

    @property
    def stop_asked(self) -> bool:
        """Whether somebody wishes the run to save and leave."""
        return (self._folder / "stop.json").exists()

    def begin(self) -> None:
        """The first step is about to be made."""
        self._machines = self._context.gather(self._context.machine)
        self._began = self._mark = time.monotonic()
        self.phase("training")

    def count(self, tokens: int) -> None:
        """Add the real tokens of one pack to the step."""
        self._tokens += tokens

    def step_made(self, step: int, *, loss: float, learning_rate: float, grad_norm: float) -> None:
        """One line for one step. All processes call it together."""
        ranks = self._context.table(self._tokens, _peak_memory(), *self.stopwatch.take())
        now, tokens = time.monotonic(), int(sum(row[0] for row in ranks))
        self.step, self.loss = step, loss
        self.validation_loss = None  # what was measured before is not this step's
        row = {
            "step": step,
            "loss": loss,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "tokens": tokens,
            "tokens_per_second": round(tokens / max(now - self._mark, 1e-9), 1),
            "seconds": round(self._before + now - self._began, 3),
            "memory": int(max(row[1] for row in ranks)),
        }
        self._write(row)
        if not self._context.local_rank:  # for `train.log` of each machine
            sys.stdout.write(json.dumps(row) + "\n")
        self._tokens, self._mark = 0, now
        if self._context.world > 1:
            self._compare(step, ranks)
        if now - self._beat > _HEARTBEAT:
            self.phase("training")

    def _compare(self, step: int, ranks: list[list[float]]) -> None:
        """A line for each process now and then, and who of them keeps the others waiting."""
        self._spans.append([row[2:] for row in ranks])
        if len(self._spans) < SPAN:
            return
        means = [[sum(span[rank][at] for span in self._spans) / SPAN for at in (0, 1)] for rank in range(len(ranks))]
        self._spans.clear()
        for rank, (reading, computing) in enumerate(means):
            row = {"step": step, "rank": rank, "machine": self._machines[rank], "memory": int(ranks[rank][1])}
            self._append("ranks.jsonl", row | {"reading": round(reading, 4), "computing": round(computing, 4)})
        found = slowest([sum(each) for each in means])
        self._slow = (
            StudioError("runs.slow_rank", rank=found[0], machine=self._machines[found[0]], times=found[1])
            if found
            else None
        )

    def validating(self, done: int, of: int) -> None:
        """How far a validation is."""
        if time.monotonic() - self._beat > _HEARTBEAT:
            self.phase("training", validating=done / of)

    def validated(self, step: int, loss: float) -> None:
        """The loss on conversations that are never learned from."""
        self.validation_loss = loss
        self._write({"step": step, "validation_loss": loss})
        self.phase("training")
        self._mark = time.monotonic()  # the next step's speed is that of training

    def examined(self, step: int, *, learned: tuple[int, int], kept: tuple[int, int]) -> None:
        """How many facts are known and how many questions were kept, each of how many."""
        names = ("learned", "learned_of", "kept", "kept_of")
        self._write({"step": step, **dict(zip(names, (*learned, *kept), strict=True))})
        self._mark = time.monotonic()

    def sampled(self, step: int, question: str, answer: str) -> None:
        """What the model answers now to the question that is asked at every save."""
        self._append("samples.jsonl", {"step": step, "question": question, "answer": answer})
        self._mark = time.monotonic()

    def phase(self, name: str, problem: StudioError | None = None, **more: float) -> None:
        """Write the heartbeat: where the run is, what stopped it, what `more` is known. Raises StudioError where the
        folder is gone."""
        self._beat = time.monotonic()
        if not self._context.first:
            return
        self._check()
        told = {
            "phase": name,
            "steps": self._steps,
            "time": time.time(),
            "boot_id": process.boot_id(),
            "monotonic": self._beat,  # a clock that nobody sets back, the same in all processes of this boot
        } | more
        if self._slow:
            told["slow"] = self._slow.to_json()
        problems = {"problem": problem.to_json()} if problem else {}
        write_json(self._folder / "progress.json", told | problems, parents=False)

    def _write(self, row: dict[str, Any]) -> None:
        self._append("metrics.jsonl", row)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if not self._context.first:
            return
        self._check()
        with (self._folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _check(self) -> None:
        if not (self._folder / "run.json").exists():
            raise StudioError("runs.folder_gone", folder=str(self._folder))


def _seconds_before(folder: Path) -> float:
    """How long the run had gone on when it was interrupted."""
    try:
        lines = read_text(folder / "metrics.jsonl").splitlines()
    except OSError:
        return 0.0
    return next((row["seconds"] for line in reversed(lines) if "seconds" in (row := json.loads(line))), 0.0)


def _peak_memory() -> int:
    """The most memory that was held, in bytes: the card's, or the process's where there is none."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return peak_memory()
