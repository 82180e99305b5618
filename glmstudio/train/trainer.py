"""P-Tuning v2 on transformers' Trainer: only the prefix learns, and only learned tokens are scored."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import GlmForCausalLM, Trainer, TrainerCallback, TrainingArguments

from glmstudio.data.prompt import IGNORED
from glmstudio.data.tokenizer import PAD
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.glm.adapters import save_prefix
from glmstudio.runs.presets import Settings
from glmstudio.train.batches import Examples, collate

_HEARTBEAT = 5.0
_MOST_SKIPPED = 20  # steps in a row that 16-bit training leaves out while it looks for its scale


class Scored(nn.Module):
    """The model as the Trainer sees it: ids and labels in, the mean loss of the learned tokens out."""

    def __init__(self, glm: GlmForCausalLM) -> None:
        super().__init__()
        self.glm = glm

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """`input_ids` and `labels` are (B, T); logits are made only for the rows that are scored."""
        hidden = self.glm.model(input_ids=input_ids, use_cache=False).last_hidden_state[:, :-1]  # (B, T - 1, H)
        wanted = labels[:, 1:]
        rows = wanted != IGNORED
        logits = self.glm.lm_head(hidden[rows]).float()
        return {"loss": functional.cross_entropy(logits, wanted[rows])}


class PrefixTrainer(Trainer):
    """Trainer whose checkpoints hold the prefix and never the model."""

    base: str
    witness: Witness

    def training_step(self, model: nn.Module, inputs: dict[str, torch.Tensor], *rest: Any, **more: Any) -> torch.Tensor:
        """As in transformers, with the batch counted when it is used; it was fetched a step earlier."""
        self.witness.count(inputs["input_ids"])
        return super().training_step(model, inputs, *rest, **more)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        save_prefix(
            self.accelerator.unwrap_model(self.model).glm, Path(output_dir or self.args.output_dir), base=self.base
        )


class Witness(TrainerCallback):
    """Writes each step to the run's directory, and stops a run that was asked to stop or that went wrong."""

    def __init__(self, folder: Path, model: GlmForCausalLM, steps: int) -> None:
        self._folder, self._model, self._steps = folder, model, steps
        self._tokens: int | torch.Tensor = 0
        self._spent, self._began, self._beat = 0.0, time.monotonic(), 0.0
        self.stopped = False
        self._skipped = 0

    def count(self, ids: torch.Tensor) -> None:
        """Add the real tokens of one batch (B, T) to the step; nothing waits for the card."""
        self._tokens = self._tokens + (ids != PAD).sum()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()
        self.phase("training")

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        gradients = [each.grad for each in self._model.prefix.parameters() if each.grad is not None]
        self._skipped = 0 if all(torch.isfinite(each).all() for each in gradients) else self._skipped + 1
        # Before the step, so that the numbers learned so far stay good; fp16's scaler leaves such a step out itself.
        if self._skipped > (_MOST_SKIPPED if args.fp16 else 0):
            raise StudioError("runs.gradient_not_finite", step=state.global_step + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if (self._folder / "stop.json").exists():
            self.stopped = True
            control.should_save = control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(float(logs["loss"])):
            raise StudioError("runs.loss_not_finite", step=state.global_step)
        seconds, tokens = time.monotonic() - self._began, int(self._tokens)
        row = {
            "step": state.global_step,
            "loss": float(logs["loss"]),
            "learning_rate": logs.get("learning_rate"),
            "grad_norm": float(logs["grad_norm"]) if "grad_norm" in logs else None,
            "tokens": tokens,
            "tokens_per_second": round(tokens / max(seconds - self._spent, 1e-9), 1),
            "seconds": round(seconds, 3),
        }
        self._tokens, self._spent = 0, seconds
        with (self._folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if time.monotonic() - self._beat > _HEARTBEAT:
            self.phase("training")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.phase("training")

    def phase(self, name: str, problem: StudioError | None = None) -> None:
        """Write the heartbeat: where the trainer is, and what stopped it."""
        self._beat = time.monotonic()
        told = {"phase": name, "steps": self._steps, "time": time.time()}
        write_json(self._folder / "progress.json", told | ({"problem": problem.to_json()} if problem else {}))


def make_trainer(
    glm: GlmForCausalLM, examples: Examples, settings: Settings, folder: Path
) -> tuple[PrefixTrainer, Witness]:
    """The Trainer for a model with a fresh prefix, and the witness that reports to `folder`."""
    witness = Witness(folder, glm, settings.steps)
    on_gpu = glm.device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup_steps,
        max_grad_norm=settings.max_grad_norm,
        weight_decay=0.0,
        save_steps=settings.save_every,
        logging_steps=1,
        logging_nan_inf_filter=False,
        seed=settings.seed,
        use_cpu=not on_gpu,
        fp16=on_gpu and glm.dtype == torch.float16,
        train_sampling_strategy="group_by_length" if settings.batch_size > 1 else "random",
        length_column_name="length",
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to=[],
    )

    trainer = PrefixTrainer(
        model=Scored(glm), args=arguments, train_dataset=examples, data_collator=collate, callbacks=[witness]
    )
    # As the original: the mean of each batch, then the mean of the batches of a step.
    trainer.model_accepts_loss_kwargs = False
    trainer.base, trainer.witness = settings.model, witness
    return trainer, witness
