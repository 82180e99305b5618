"""Transformers' Trainer for GLM: only learned tokens are scored, and a checkpoint counts when it is whole."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from transformers import GlmForCausalLM, Trainer, TrainerCallback, TrainingArguments

from glmstudio.config.settings import Settings, pack_limit
from glmstudio.models.library import Model
from glmstudio.rundir.checkpoints import best, list_checkpoints, prune, seal
from glmstudio.train.batches import Examples, LengthGroupedSampler, PackBatchSampler, PackedDataset, StepConfig
from glmstudio.train.distributed.checkpoint_sync import collect
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.divergence import DivergenceGuard
from glmstudio.train.methods import METHODS, Method
from glmstudio.train.model_with_loss import ModelWithLoss, attention_cost_length
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
    witness: RunReporter
    sample: Callable[[int], None]
    team: DistributedContext
    engine: ShardingStrategy
    about: Mapping[str, Any] = field(default_factory=dict)  # `run.json`
    exam: Exam | None = None  # of the first process


_SCHEDULE = "scheduler.pt"  # transformers' name for it


class StudioTrainer(Trainer):
    """Trainer whose order, checkpoints and validation are the studio's."""

    job: TrainingJob
    order: LengthGroupedSampler
    steps: StepConfig
    method: Method
    watcher: Watcher
    control: Any
    forgotten = 0  # checkpoints in a row that kept too little; a dip at the start is usual

    @property
    def glm(self) -> GlmForCausalLM:
        """The model itself."""
        return self.accelerator.unwrap_model(self.model).glm

    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """This process's packs, those of a step together. They are dealt out here: accelerate would give the last ones
        of an epoch twice."""
        return DataLoader(
            PackedDataset(self.job.examples, self.steps.layout),
            batch_sampler=PackBatchSampler(self.job.examples, self.order, self.steps, self.job.team),
            collate_fn=list,
            num_workers=self.job.settings.loader_processes,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def get_batch_samples(self, *arguments: Any) -> Any:
        """As in transformers, with the time taken."""
        with self.job.witness.stopwatch.reading():
            return super().get_batch_samples(*arguments)

    def training_step(self, model: nn.Module, inputs: Any, *rest: Any) -> torch.Tensor:
        """The packs of a step, one after the other; with DDP, gradients are sent to the others with the last one."""
        total = torch.zeros((), device=self.args.device)
        for place, pack in enumerate(inputs, 1):
            last = place == len(inputs)
            self.accelerator.gradient_state._set_sync_gradients(last)  # noqa: SLF001 (as the Trainer itself does)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                total += super().training_step(model, pack, *rest)
        return total

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        """As in transformers, with the time taken, and the pack counted when it is used; it was fetched earlier."""
        self.job.witness.count(inputs.pop("tokens"))
        with self.job.witness.stopwatch.computing():
            return super().compute_loss(model, inputs, *rest, **more)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The mean loss of all learned tokens of the validation set, whose packs all processes share out."""
        team, model, validation = self.job.team, self.model, self.job.validation
        if validation is None:
            return {}
        total, count = 0.0, 0.0
        # A generator of its own: else it would draw from the one that training draws its dropout from.
        apart = torch.Generator()
        layout = dataclasses.replace(self.steps.layout, prompts=None)
        steps = dataclasses.replace(
            self.steps, accumulation=self.steps.accumulation * team.world, layout=layout, mean=False
        )
        deal = PackBatchSampler(validation, range(len(validation)), steps, team)
        model.eval()
        with torch.no_grad():  # a divided model keeps what it put together, and learns with it afterwards
            packed = PackedDataset(validation, steps.layout)
            loader = DataLoader(packed, batch_sampler=deal, collate_fn=list, generator=apart)
            for done, packs in enumerate(loader):
                self.job.witness.validating(done, len(deal))
                for pack in packs:
                    del pack["tokens"]
                    count += sum(weight * n for weight, n in zip(pack["weights"], pack["counts"], strict=True))
                    total += float(model(**self._prepare_inputs(pack))["loss"])
        model.train()
        total, count = (sum(column) for column in zip(*team.table(total, count), strict=True))
        metrics = {"eval_loss": total / max(count, 1)}
        self.job.witness.validated(self.state.global_step, metrics["eval_loss"])
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        """As in transformers; where the whole model learns, its numbers are put in their places only then."""
        job, whole = self.job, self.method.files is None
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None if whole else resume_from_checkpoint)
        job.engine.bind(self.model_wrapped, self.glm, self.optimizer)
        if whole and (resume_from_checkpoint or job.engine.starts_empty):
            restore_state(job.engine, Path(resume_from_checkpoint or job.base.path), self._optimizer_order)
        if whole and resume_from_checkpoint:
            schedule = torch.load(Path(resume_from_checkpoint) / _SCHEDULE, weights_only=True)
            self.lr_scheduler.load_state_dict(schedule)
            for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
                group["lr"] = rate
            self._load_scaler(resume_from_checkpoint)
        return prepared

    def _optimizer_order(self) -> list[str]:
        """The native names in the order in which the optimizer of one process has the parameters."""
        decayed = set(self.get_decay_parameter_names(self.model))
        names = [name for name, _ in self.model.named_parameters()]
        return [name.removeprefix("glm.") for name in sorted(names, key=lambda name: name not in decayed)]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in transformers; where the whole model learns, with what the optimizer remembers."""
        job = self.job
        if self.method.files:
            super().save_model(output_dir, _internal_call)
            return
        spread = job.settings.checkpoint_form == "sharded"
        save_state(job.engine, Path(output_dir or self.args.output_dir), job.base.path, spread=spread)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.method.files:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / _SCHEDULE)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self.watcher.gradient(norm, self.state.global_step + 1)
        return norm

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.method.files:
            self.method.files.save(self.glm, Path(output_dir or self.args.output_dir), self.job.base)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.method.files:
            self.method.files.restore(self.glm, Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """A checkpoint, whole or not at all; then a sample of what the model says now, and room for the next one."""
        witness, step, team = self.job.witness, self.state.global_step, self.job.team
        witness.phase("saving")
        path = Path(self.args.output_dir) / f"checkpoint-{step}"
        if team.first and path.is_symlink():
            path.unlink()  # nothing is ever written where somebody else's link leads
        team.barrier()
        marks = examine(self.job.exam, self.glm, step, witness) if self.job.exam and not self.watcher.stopped else None
        try:
            super()._save_checkpoint(model, trial)
            team.barrier()  # every process has written its random numbers
            collect(team, path, self.job.about)
            if team.first:
                losses = {"loss": witness.loss, "validation_loss": witness.validation_loss}
                seal(path, step=step, **losses, facts=marks.worth if marks else None)
        except Exception:
            shutil.rmtree(path, ignore_errors=True)
            raise
        if team.first:
            prune(path.parent, keep=self.job.settings.keep_checkpoints, by=self.job.settings.best_by)
        # A model that is divided among the processes can only speak when all of them take part.
        if not self.watcher.stopped and (team.first or self.job.settings.engine != "ddp"):
            self.job.sample(step)
        if team.any(self._may_end_early(path.parent, marks)):
            self.control.should_training_stop = True
        team.barrier()
        witness.phase("training")

    def _may_end_early(self, folder: Path, marks: ExamScores | None) -> bool:
        """Whether so many checkpoints in a row were no better than one before them, or kept too little."""
        settings = self.job.settings
        if not settings.early_stop or not self.job.team.first:
            return False
        self.forgotten = self.forgotten + 1 if marks is not None and marks.forgets else 0
        found = list_checkpoints(folder)
        good = best(found, settings.best_by)
        no_better = good is not None and self._saves_since(good.step) >= settings.early_stop
        return no_better or self.forgotten >= settings.early_stop

    def _saves_since(self, step: int) -> int:
        return (self.state.global_step - step) // self.job.settings.save_every


class Watcher(TrainerCallback):
    """Looks after a run: reports each step, and stops it when it was asked to or when it went wrong."""

    def __init__(self, job: TrainingJob, order: LengthGroupedSampler, *, scaled: bool) -> None:
        self._job, self._order = job, order
        self._health = DivergenceGuard(scaled=scaled)
        self.stopped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._job.witness.begin()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        batches = math.ceil(len(self._order) / self._job.settings.batch_size)
        self._order.epoch = state.global_step // max(1, math.ceil(batches / self._job.settings.accumulation))

    def gradient(self, norm: float | torch.Tensor, step: int) -> None:
        """Before the optimizer's step: the norm of all gradients, which is finite only where each of them is."""
        self._health.gradient(math.isfinite(norm), step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if self._job.team.any(self._job.witness.stop_asked):
            self.stopped = True
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._health.loss(float(logs["loss"]), state.global_step)
            self._job.witness.step_made(state.global_step, logs)


def make_trainer(glm: GlmForCausalLM, job: TrainingJob) -> tuple[StudioTrainer, Watcher]:
    """The Trainer for a model on which a method was put, and the callback that looks after the run."""
    settings = job.settings
    on_gpu = glm.device.type == "cuda"
    whole = settings.method == "full"
    bf16 = on_gpu and whole and torch.cuda.is_bf16_supported(including_emulation=False)
    fp16 = on_gpu and (glm.dtype == torch.float16 or (whole and not bf16))
    prompts = job.examples.prompts
    order = LengthGroupedSampler(job.examples.lengths, settings.batch_size, settings.seed, prompts)
    limit = pack_limit(settings, int(job.examples.lengths.max())) if settings.packing else None
    steps = StepConfig(settings.batch_size, settings.accumulation, Packer(limit, attention_cost_length(glm), prompts))
    watcher = Watcher(job, order, scaled=fp16)
    scored = ModelWithLoss(glm)
    job.engine.divide(scored)
    trainer = StudioTrainer(
        model=scored,
        args=_arguments(job, on_gpu=on_gpu, bf16=bf16, fp16=fp16),
        train_dataset=job.examples,
        eval_dataset=job.validation,
        callbacks=[watcher],
    )
    # As the original: the mean of each batch, then the mean of the batches of a step. `Deal` weighs for that.
    trainer.model_accepts_loss_kwargs = False
    trainer.job, trainer.order, trainer.steps, trainer.watcher = job, order, steps, watcher
    trainer.method = METHODS[settings.method]
    return trainer, watcher


def _arguments(job: TrainingJob, *, on_gpu: bool, bf16: bool, fp16: bool) -> TrainingArguments:
    settings = job.settings
    common = {
        "output_dir": str(job.folder / "checkpoints"),
        "max_steps": settings.steps,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": 1,  # a step's packs are one batch to the Trainer
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": settings.warmup_steps,
        "max_grad_norm": settings.max_grad_norm,
        "weight_decay": 0.0,
        "save_steps": settings.save_every,
        "eval_strategy": "steps" if job.validation else "no",
        "eval_steps": settings.save_every,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "seed": settings.seed,
        "use_cpu": not on_gpu,
        "bf16": bf16,
        "fp16": fp16,
        "dataloader_num_workers": settings.loader_processes,
        "remove_unused_columns": False,
        "dataloader_pin_memory": on_gpu,
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,  # nothing in them changes
        "disable_tqdm": True,
        "report_to": [],
    }
    return TrainingArguments(**(common | job.engine.arguments()))
