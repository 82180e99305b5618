"""One training session, read top to bottom: model, data, steps, result."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import GlmForCausalLM, set_seed

from glmstudio import __version__
from glmstudio.config.settings import Settings, change, on_one_prompt
from glmstudio.data.protocol.prompt import opening_of
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.selection import held_back
from glmstudio.data.store import prepare
from glmstudio.errors import StudioError
from glmstudio.files import read_json, read_table, write_json
from glmstudio.models import ready_model, verification
from glmstudio.planning.training_data import training_data
from glmstudio.rundir.checkpoints import best, list_checkpoints, verify
from glmstudio.rundir.reasons import out_of_memory
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import last_word
from glmstudio.train.batches import Examples
from glmstudio.train.distributed.checkpoint_sync import start_of
from glmstudio.train.distributed.consistency import agree
from glmstudio.train.distributed.context import DistributedContext, join, of_this_process
from glmstudio.train.methods import METHODS, checkpoint_layers, compile_kernels
from glmstudio.train.run_reporter import RunReporter
from glmstudio.train.sample import sampler
from glmstudio.train.shared_prefix import prompts_of
from glmstudio.train.strategies import strategy_of
from glmstudio.train.strategies.base import ShardingStrategy
from glmstudio.train.strategies.full_state import restore_state, save_result
from glmstudio.train.trainer import Trainer, TrainingJob
from glmstudio.train.training_exam import Exam

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_MARKS = ("No space left on device", "Disk quota exceeded", "PytorchStreamWriter failed", "inline_container.cc")


def train(folder: Path) -> int:
    """Train the run in `folder`; 0 when it finished or was stopped as asked. A reason is left in `progress.json`."""
    about = read_json(folder / RunFiles.RECORD)
    try:
        if about is None:
            raise StudioError("runs.folder_gone", folder=str(folder))
        context = join()
        settings = change(Settings(), about["settings"], source=str(folder / RunFiles.RECORD))
        _train(settings, folder, about, context)
        context.leave()
    except StudioError as problem:
        _tell(folder, problem)
    except torch.OutOfMemoryError as error:
        _tell(folder, of_this_process(_out_of_memory(error)))
    except OSError as error:
        key = "runs.disk_full" if error.errno in _FULL else "runs.system"
        _tell(folder, of_this_process(StudioError(key, folder=str(folder), reason=error.strerror or str(error))))
    except Exception as error:
        if not any(mark in str(error) for mark in _FULL_MARKS):  # as torch and safetensors say it
            raise
        _tell(folder, StudioError("runs.disk_full", folder=str(folder)))
    else:
        return 0
    return 1


def _train(settings: Settings, folder: Path, about: dict[str, Any], context: DistributedContext) -> None:
    resume, warm = start_of(context, folder, about)
    reporter = RunReporter(folder, settings.steps, context)
    reporter.phase("loading")
    model, method = ready_model(settings.model), METHODS[settings.method]
    if resume:
        verify(resume)
    set_seed(settings.seed)
    strategy = strategy_of(settings, context)
    glm = strategy.build(model.path)
    # Of a divided model, no process has all the numbers yet.
    exam = Exam.of(glm, settings, model, folder) if context.first and settings.engine == "ddp" else None
    # A checkpoint holds all of it: where the run began may be gone by now.
    method.attach(glm, settings, resume if warm and resume else warm)
    glm.train()
    reporter.phase("reading")
    with context.first_goes_first():
        examples, validation, counts = _data(settings, model.path)
    agree(context, settings, model.path, counts["sha256"])
    tokenizer = Tokenizer(model.path)
    checkpoint_layers(glm, settings)
    compile_kernels(glm, settings)
    if context.first:
        write_json(folder / RunFiles.RECORDS, counts, parents=False)
        write_json(folder / RunFiles.OPENING, _opening(tokenizer, examples), parents=False)
        write_json(folder / RunFiles.ENVIRONMENT, _environment(glm, context), parents=False)
    sample = sampler(glm, tokenizer, examples, settings.sample_prompt, reporter)
    job = TrainingJob(settings, model, folder, examples, validation, reporter, sample, context, strategy, about, exam)
    trainer = Trainer(glm, job)
    trainer.fit(resume)
    if about.get("probe"):
        reporter.phase("done")
        return
    reporter.phase("saving")
    if not trainer.stopped:
        _take_best(glm, strategy, folder, trainer.step)
    _finish(glm, strategy, folder)
    reporter.phase("stopped" if trainer.stopped else "done")


def _data(settings: Settings, model: Path) -> tuple[Examples, Examples | None, dict[str, Any]]:
    """What is learned from, what is only looked at, and how many conversations became what."""
    store = training_data(settings)
    chosen = store.select(settings.bad_records, settings.max_length)
    rows, ends = chosen.rows, chosen.ends
    kept_back = None
    if settings.validation:
        other = prepare(Path(settings.validation), model, piece=settings.max_length)
        good = other.select("drop", settings.max_length)
        kept_back = Examples(other, good.rows, good.ends)
    elif settings.validation_share:
        held = held_back(store.table, chosen, settings.validation_share, settings.seed)
        kept_back = Examples(store, rows[held], ends[held]) if held.any() else None
        rows, ends = rows[~held], ends[~held]
    if not len(rows):
        raise StudioError("data.file_empty", file=settings.data)
    counts = {name: value for name, value in asdict(chosen).items() if isinstance(value, int)}
    counts |= {"validation": len(kept_back) if kept_back else 0, "trained": len(rows)}
    prompts = None
    if (most := on_one_prompt(settings)) > 1:
        prompts = prompts_of(store, rows, ends, Tokenizer(model).user, most)
    return Examples(store, rows, ends, prompts), kept_back, counts | {"sha256": store.sha256}


def _opening(tokenizer: Tokenizer, examples: Examples) -> dict[str, Any]:
    """How the first conversation begins, and whether that tells the model of tools."""
    ids = opening_of(tokenizer, examples[0]["input_ids"].tolist())
    return {"ids": ids, "tools": examples.has_tools(0)}


def _take_best(glm: GlmForCausalLM, strategy: ShardingStrategy, folder: Path, step: int) -> None:
    """Go back to the best checkpoint where the facts choose it, or the run may end early. All processes call it."""
    settings = strategy.settings
    if settings.best_by != "facts" and not settings.early_stop:
        return
    good = best(list_checkpoints(folder / RunFiles.CHECKPOINTS), settings.best_by)
    if good is None or good.step == step:
        return
    files = METHODS[settings.method].files
    if files is None:
        restore_state(strategy, good.path)
    else:
        files.restore(glm, good.path)
    if strategy.context.first:
        file = folder / RunFiles.EXAM
        write_json(file, read_table(file) | {"result_step": good.step}, parents=False)


def _finish(glm: GlmForCausalLM, strategy: ShardingStrategy, folder: Path) -> None:
    """The result, in place of an older one at once; every process calls it."""
    settings, first, files = strategy.settings, strategy.context.first, METHODS[strategy.settings.method].files
    model = ready_model(settings.model)
    fresh, old = folder / "result.new", folder / RunFiles.RESULT
    if first:
        shutil.rmtree(fresh, ignore_errors=True)
    if files is None:
        save_result(strategy, fresh, model.path)
    elif first:
        files.finish(glm, fresh, model)
    if first:
        shutil.rmtree(old, ignore_errors=True)
        os.replace(fresh, old)
        if files is None:
            verification.record(old, verification.look(old))  # every byte of it was written just now


def _environment(glm: GlmForCausalLM, context: DistributedContext) -> dict[str, Any]:
    """What the numbers depend on besides the settings."""
    known = ("torch", "transformers", "accelerate", "peft", "safetensors", "sentencepiece")
    card = torch.cuda.get_device_name() if glm.device.type == "cuda" else None
    packages = {name: importlib.metadata.version(name) for name in known}
    return {
        "glmstudio": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "card": card,
        "cuda": torch.version.cuda,
        "dtype": str(glm.dtype).removeprefix("torch."),
        "processes": context.world,
        "packages": packages,
    }


def _out_of_memory(error: Exception) -> StudioError:
    """What was needed and what was free, in bytes, as the GPU says it."""
    if not torch.cuda.is_available():
        return StudioError("runs.out_of_memory")
    free, total = torch.cuda.mem_get_info()
    return out_of_memory(str(error), free=free, total=total)


def _tell(folder: Path, problem: StudioError) -> None:
    """Leave the reason, unless another process has left one; on a full disk, room for it was kept from the start."""
    progress = read_table(folder / RunFiles.PROGRESS)
    if not progress.get("problem"):
        last_word(folder, RunFiles.PROGRESS, progress | {"phase": "failed", "problem": problem.to_json()})
    with contextlib.suppress(OSError):  # the log lies on the same disk
        sys.stderr.write(f"{problem}\n")
        sys.stderr.flush()
