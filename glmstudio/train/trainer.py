"""The training loop: optimizer steps of packs, and validation and checkpoints when they are due.

It runs on accelerate, which knows DDP, DeepSpeed and mixed precision; FSDP2 is applied by its strategy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import skip_first_batches
from accelerate.utils import send_to_device
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from transformers import GlmForCausalLM, get_linear_schedule_with_warmup, set_seed

from glmstudio.config.settings import Settings, pack_limit
from glmstudio.errors import StudioError
from glmstudio.models.library import Model
from glmstudio.rundir.checkpoints import best, list_checkpoints, prune, seal
from glmstudio.train.batches import Examples, LengthGroupedSampler, PackBatchSampler, PackedDataset, StepConfig
from glmstudio.train.distributed.checkpoint_sync import collect
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.divergence import DivergenceGuard
from glmstudio.train.methods import METHODS
from glmstudio.train.model_with_loss import ModelWithLoss, attention_cost_length
from glmstudio.train.optimizer import adamw, make_accelerator, restore_states, save_states
from glmstudio.train.packs import Packer
from glmstudio.train.run_reporter import RunReporter
from glmstudio.train.strategies.base import ShardingStrategy
from glmstudio.train.strategies.full_state import restore_state, save_state
from glmstudio.train.training_exam import Exam, ExamScores, examine


@dataclass(frozen=True)
class TrainingJob:
    """What a trainer is made of, besides the model."""

    settings: Settings
    base: Model
    folder: Path
    examples: Examples
    validation: Examples | None
    reporter: RunReporter
    sample: Callable[[int], None]
    context: DistributedContext
    strategy: ShardingStrategy
    about: Mapping[str, Any] = field(default_factory=dict)  # `run.json`
    exam: Exam | None = None  # of the first process


class Trainer:
    """Trains a model on which a method was put. Every process has one, and all call the same methods."""

    def __init__(self, glm: GlmForCausalLM, job: TrainingJob) -> None:
        settings, examples = job.settings, job.examples
        set_seed(settings.seed)
        self.job, self.glm, self.files = job, glm, METHODS[settings.method].files
        self.sampler = LengthGroupedSampler(examples.lengths, settings.batch_size, settings.seed, examples.prompts)
        limit = pack_limit(settings, int(examples.lengths.max())) if settings.packing else None
        packer = Packer(limit, attention_cost_length(glm), examples.prompts)
        self.steps = StepConfig(settings.batch_size, settings.accumulation, packer)
        self.accelerator = make_accelerator(glm, job.strategy)
        self.guard = DivergenceGuard(scaled=self.accelerator.mixed_precision == "fp16")
        scored = ModelWithLoss(glm)
        job.strategy.divide(scored)
        self.model, self.optimizer = self.accelerator.prepare(scored, adamw(scored, settings.learning_rate))
        self.scheduler = get_linear_schedule_with_warmup(self.optimizer, settings.warmup_steps, settings.steps)
        job.strategy.bind(self.model, glm, self.optimizer)
        states = {"scheduler.pt": self.scheduler, "scaler.pt": self.accelerator.scaler}
        states |= {"optimizer.pt": self.optimizer} if self.files else {}
        self._states = {name: each for name, each in states.items() if each is not None}
        self.step = 0
        self.stopped = False  # as somebody asked for it
        self.ends_early = False
        self._forgetting = 0  # checkpoints in a row that kept too little; a dip at the start is usual

    def fit(self, resume: Path | None = None) -> None:
        """Train to the last step, or until the run is asked to stop or ends early. Raises StudioError."""
        settings, reporter, context = self.job.settings, self.job.reporter, self.job.context
        self._load_checkpoint(resume)
        loader = self._train_loader()
        self.model.train()
        reporter.begin()
        while self.step < settings.steps and not self.stopped and not self.ends_early:
            self.sampler.epoch, done = divmod(self.step, len(loader))
            # A loader draws a number at its start; an epoch that goes on has drawn it before it was saved.
            with torch.random.fork_rng(devices=[], enabled=done > 0):
                batches = iter(skip_first_batches(loader, done))
            for _ in range(done, len(loader)):
                with reporter.stopwatch.reading():
                    packs = _next(batches)
                loss, norm, rate = self.train_step(packs)
                self.stopped = context.any(reporter.stop_asked)
                self.guard.loss(loss, self.step)
                reporter.step_made(self.step, loss=loss, learning_rate=rate, grad_norm=norm)
                last = self.step == settings.steps
                due = last or self.step % settings.save_every == 0
                if due and not self.stopped:
                    self.validate()
                if (due or self.stopped) and not self.job.about.get("probe"):
                    self.save_checkpoint()
                if last or self.stopped or self.ends_early:
                    break

    def train_step(self, packs: list[dict[str, Any]]) -> tuple[float, float, float]:
        """One optimizer step: the loss, the norm of the gradients and the learning rate of it."""
        total = torch.zeros((), device=self.accelerator.device)
        for place, pack in enumerate(packs, 1):
            last = place == len(packs)  # with DDP, gradients are sent to the others with the last pack
            self.accelerator.sync_gradients = last
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                given = send_to_device(pack, self.accelerator.device)
                self.job.reporter.count(given.pop("tokens"))
                with self.job.reporter.stopwatch.computing():
                    loss = self.model(**given)["loss"]
                self.accelerator.backward(loss)
            total += loss.detach()
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.job.settings.max_grad_norm)
        norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        self.guard.gradient(math.isfinite(norm), self.step + 1)
        self.optimizer.step()
        rate = float(self.scheduler.get_last_lr()[0])
        if not self.accelerator.optimizer_step_was_skipped:
            self.scheduler.step()
        self.model.zero_grad()
        self.step += 1
        return float(self.accelerator.gather(total).mean()), norm, rate

    def validate(self) -> None:
        """The mean loss of all learned tokens of the validation set, whose packs all processes share out."""
        context, model, validation, reporter = self.job.context, self.model, self.job.validation, self.job.reporter
        if validation is None:
            return
        total, count = 0.0, 0.0
        packer = dataclasses.replace(self.steps.packer, prompts=None)
        accumulation = self.steps.accumulation * context.world
        steps = dataclasses.replace(self.steps, accumulation=accumulation, packer=packer, mean=False)
        sampler = PackBatchSampler(validation, range(len(validation)), steps, context)
        # A generator of its own: else it would draw from the one that training draws its dropout from.
        own = torch.Generator()
        loader = DataLoader(PackedDataset(validation, packer), batch_sampler=sampler, collate_fn=list, generator=own)
        model.eval()
        with torch.no_grad():  # a divided model keeps what it put together, and learns with it afterwards
            for done, packs in enumerate(loader):
                reporter.validating(done, len(sampler))
                for pack in packs:
                    del pack["tokens"]
                    counted = zip(pack["loss_weights"], pack["label_counts"], strict=True)
                    count += sum(weight * n for weight, n in counted)
                    total += float(model(**send_to_device(pack, self.accelerator.device))["loss"])
        model.train()
        total, count = (sum(column) for column in zip(*context.table(total, count), strict=True))
        reporter.validated(self.step, total / max(count, 1))

    def save_checkpoint(self) -> None:
        """A checkpoint, whole or not at all; then a sample of what the model says now, and room for the next one."""
        job, reporter, context = self.job, self.job.reporter, self.job.context
        reporter.phase("saving")
        path = job.folder / f"checkpoints/checkpoint-{self.step}"
        if context.first and path.is_symlink():
            path.unlink()  # nothing is ever written where somebody else's link leads
        context.barrier()
        marks = examine(job.exam, self.glm, self.step, reporter) if job.exam and not self.stopped else None
        try:
            self._write_checkpoint(path)
            if context.first:
                losses = {"loss": reporter.loss, "validation_loss": reporter.validation_loss}
                seal(path, step=self.step, **losses, facts=marks.worth if marks else None)
        except Exception:
            shutil.rmtree(path, ignore_errors=True)
            raise
        if context.first:
            prune(path.parent, keep=job.settings.keep_checkpoints, by=job.settings.best_by)
        # A model that is divided among the processes can only speak when all of them take part.
        if not self.stopped and (context.first or job.settings.engine != "ddp"):
            job.sample(self.step)
        self.ends_early = context.any(context.first and self._may_end_early(path.parent, marks))
        context.barrier()
        reporter.phase("training")

    def _write_checkpoint(self, path: Path) -> None:
        job = self.job
        if not self.files:
            save_state(job.strategy, path, job.base.path, spread=job.settings.checkpoint_form == "sharded")
        elif job.context.first:
            self.files.save(self.glm, path, job.base)
        save_states(path, job.context, self._states)
        job.context.barrier()  # every process has written its random numbers
        collect(job.context, path, job.about)

    def _load_checkpoint(self, path: Path | None) -> None:
        """Go on from a checkpoint; where there is none, a model that comes without its numbers gets the base's."""
        job = self.job
        if self.files and path:
            self.files.restore(self.glm, path)
        elif not self.files and (path or job.strategy.starts_empty):
            restore_state(job.strategy, path or job.base.path)
        if path:
            self.step = int(path.name.rpartition("-")[2])
            restore_states(path, job.context, self._states)
            for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
                group["lr"] = rate

    def _train_loader(self) -> DataLoader[dict[str, Any]]:
        """This process's packs, those of a step together. They are dealt out here: accelerate would give the last ones
        of an epoch twice."""
        return DataLoader(
            PackedDataset(self.job.examples, self.steps.packer),
            batch_sampler=PackBatchSampler(self.job.examples, self.sampler, self.steps, self.job.context),
            collate_fn=list,
            num_workers=self.job.settings.loader_processes,
            pin_memory=self.glm.device.type == "cuda",
        )

    def _may_end_early(self, folder: Path, marks: ExamScores | None) -> bool:
        """Whether so many checkpoints in a row were no better than one before them, or kept too little."""
        settings = self.job.settings
        if not settings.early_stop:
            return False
        self._forgetting = self._forgetting + 1 if marks is not None and marks.forgets else 0
        good = best(list_checkpoints(folder), settings.best_by)
        since = (self.step - good.step) // settings.save_every if good else 0
        return max(since, self._forgetting) >= settings.early_stop


def _next(batches: Iterator[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The packs of the next step. Raises StudioError where the process that prepares them is gone: its connection may
    end before PyTorch sees the signal that ended it."""
    try:
        return next(batches)
    except (ConnectionError, EOFError) as error:
        raise StudioError("runs.loader_killed") from error
