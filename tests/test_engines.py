"""Full fine-tuning divided among processes: real torchrun, the losses of one process, checkpoints for all engines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from glmstudio.config import deepspeed
from glmstudio.config.optional_packages import DEEPSPEED
from glmstudio.config.presets import load_preset
from glmstudio.config.settings import Settings
from glmstudio.files import read_json, read_table
from glmstudio.glm.load import load_model
from glmstudio.models.folder import check_folder
from glmstudio.paths import ROOT
from glmstudio.planning import engines
from glmstudio.rundir.checkpoints import latest
from glmstudio.rundir.run import wait_for_end
from glmstudio.runs.start import start_run
from glmstudio.system import nvml
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.strategies import strategy_of
from glmstudio.train.strategies.base import ShardingStrategy
from glmstudio.train.strategies.fsdp import FSDPStrategy
from tests.run_helpers import problem, small_data
from tests.sharded_runs import SAVED, STEPS, alike, alone, losses, run, together


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this file's runs lie."""
    place = tmp_path_factory.mktemp("engines")
    before = os.environ.get("GLMSTUDIO_HOME")
    os.environ["GLMSTUDIO_HOME"] = str(place / "home")
    yield place
    del os.environ["GLMSTUDIO_HOME"]
    if before is not None:
        os.environ["GLMSTUDIO_HOME"] = before


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """A run of one process, which all others must equal."""
    alone(run(folder / "plain"))
    return folder / "plain"


@pytest.fixture(scope="module")
def fsdp(folder: Path, plain: Path) -> Path:
    """A run divided by FSDP2 between two processes, with a file of the checkpoint for each group of weights; and one
    that goes on from the checkpoint of one process."""
    fresh = run(folder / "fsdp", engine="fsdp", checkpoint_form="sharded")
    together(2, fresh, run(folder / "fsdp-after-plain", engine="fsdp", after=plain))
    return fresh


# --- The same result, however it is divided ---------------------------------------------------------------------------


@pytest.mark.slow
def test_fsdp_learns_what_one_process_learns(plain: Path, fsdp: Path, folder: Path) -> None:
    alike(fsdp, losses(plain))
    alike(folder / "fsdp-after-plain", losses(plain), since=SAVED + 1)


@pytest.mark.slow
def test_a_divided_checkpoint_and_its_result_are_models_that_load(plain: Path, fsdp: Path) -> None:
    checkpoint = fsdp / f"checkpoints/checkpoint-{STEPS}"
    assert len(list(checkpoint.glob("model-*.safetensors"))) > 2
    assert len(list(checkpoint.glob("optimizer-*.safetensors"))) == len(list(checkpoint.glob("model-*.safetensors")))
    for place in (checkpoint, fsdp / "result"):
        check_folder(place)
        found = dict(load_model(place, dtype=torch.float32, device="cpu").named_parameters())
        wanted = load_model(plain / place.relative_to(fsdp), dtype=torch.float32, device="cpu").named_parameters()
        # But for the bias of the keys: its gradient is nothing but rounding, of which Adam makes whole steps all the same.
        assert (
            max(float((found[name] - each).detach().abs().max()) for name, each in wanted if "k_proj.bias" not in name)
            < 1e-3
        )
    assert {each.dtype for each in load_file(fsdp / "result/model.safetensors").values()} == {torch.float16}


@pytest.mark.slow
def test_one_process_goes_on_with_a_divided_checkpoint(plain: Path, fsdp: Path, folder: Path) -> None:
    alone(run(folder / "plain-after-fsdp", after=fsdp))
    alike(folder / "plain-after-fsdp", losses(plain), since=SAVED + 1)


@pytest.mark.parametrize("harm", ["another_size", "missing", "unknown"])
def test_an_optimizer_of_another_model_is_refused(plain: Path, folder: Path, harm: str) -> None:
    from safetensors.torch import save_file

    spoilt = run(folder / f"spoilt-{harm}", after=plain)
    file = spoilt / f"checkpoints/checkpoint-{SAVED}/optimizer.safetensors"
    tensors = load_file(file)
    name = "model.norm.weight.exp_avg"
    taken = tensors.pop(name)
    if harm == "another_size":
        tensors[name] = taken[:-1].clone()
    elif harm == "unknown":
        tensors |= {name: taken, "model.norm.weight.other": taken.clone()}
    save_file(tensors, file)
    (file.parent / "checkpoint.json").unlink()
    from glmstudio.train.worker import train

    assert train(spoilt) == 1
    wanted = "models.missing_tensor" if harm == "missing" else "models.foreign_tensor"
    assert read_json(spoilt / "progress.json")["problem"]["key"] == wanted


@pytest.mark.rare  # a minute
def test_any_number_of_processes_goes_on_with_any_checkpoint(plain: Path, fsdp: Path, folder: Path) -> None:
    together(
        3, run(folder / "three", engine="fsdp", after=fsdp), run(folder / "three-of-plain", engine="fsdp", after=plain)
    )
    together(2, run(folder / "ddp", after=fsdp), run(folder / "ddp-sharded", checkpoint_form="sharded"))
    together(1, run(folder / "one", engine="fsdp", after=fsdp))
    alone(run(folder / "plain-after-ddp", after=folder / "ddp-sharded"))
    alike(folder / "ddp-sharded", losses(plain))
    for name in ("three", "three-of-plain", "ddp", "one", "plain-after-ddp"):
        alike(folder / name, losses(plain), since=SAVED + 1)


@pytest.mark.rare  # 15 s
def test_a_process_killed_while_it_writes_its_part_leaves_the_checkpoint_before(plain: Path, folder: Path) -> None:
    killed = run(folder / "killed", engine="fsdp", checkpoint_form="sharded")
    assert together(2, killed, die=2 * SAVED) != 0
    whole = latest(killed / "checkpoints")
    assert whole is not None
    assert whole.step == SAVED
    together(2, run(folder / "after-the-kill", engine="fsdp", after=killed))
    alike(folder / "after-the-kill", losses(plain), since=SAVED + 1)


@pytest.mark.rare  # 7 s
def test_a_run_is_started_with_an_engine_and_ends_in_a_model(home: Path, tmp_path: Path) -> None:
    changes = {
        "engine": "fsdp",
        "processes": 2,
        "device": "cpu",
        "steps": 2,
        "max_length": 96,
        "batch_size": 2,
        "bad_records": "fix",
    }
    made = start_run(load_preset("demo/full"), data=small_data(tmp_path), name="divided", changes=changes)
    assert wait_for_end(made, seconds=120).state == "finished", made.log()[0][-3000:]
    assert made.record.placement.processes == 2
    assert "-of-" not in "".join(file.name for file in (made.path / "result").iterdir())
    check_folder(made.path / "result")


# --- DeepSpeed, installed apart ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def separate() -> SimpleNamespace:
    """An environment with DeepSpeed that is laid over this one, kept between test runs as DeepSpeed compiles in it."""
    place = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "glmstudio-tests" / "deepspeed"
    python = place / "bin/python"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = place / f"lib/{version}/site-packages"
    done = place / "done.txt"
    wanted = f"{sys.executable}\n{torch.__version__}\n{DEEPSPEED.requirements.read_text(encoding='utf-8')}"
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
        (site / "below.pth").write_text(str(Path(torch.__file__).parents[1]) + "\n", encoding="utf-8")
        install = [str(python), "-m", "pip", "install", "--no-input", "-r", str(DEEPSPEED.requirements)]
        made = subprocess.run(install, capture_output=True, text=True, env={**os.environ, "DS_BUILD_OPS": "0"})
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
        done.write_text(wanted, encoding="utf-8")
    return SimpleNamespace(python=str(python), site=site, variables={"TORCH_EXTENSIONS_DIR": str(place / "compiled")})


@pytest.mark.rare  # 30 s each, and a minute once where DeepSpeed has to be installed and to compile
@pytest.mark.parametrize("engine", ["zero2", "zero3", "zero3_offload"])
def test_deepspeed_learns_what_one_process_learns(
    engine: str, plain: Path, fsdp: Path, folder: Path, separate: SimpleNamespace
) -> None:
    fresh = run(folder / engine, engine=engine, checkpoint_form="sharded")
    moved = run(folder / f"{engine}-after-fsdp", engine=engine, after=fsdp)
    together(2, fresh, moved, python=separate.python, **separate.variables)
    alike(fresh, losses(plain))
    alike(moved, losses(plain), since=SAVED + 1)
    check_folder(fresh / "result")
    alone(run(folder / f"plain-after-{engine}", after=fresh))
    alike(folder / f"plain-after-{engine}", losses(plain), since=SAVED + 1)
    # Three processes: their slices do not come out even.
    again = run(folder / f"{engine}-on-three", engine=engine, after=fresh)
    together(3, again, python=separate.python, **separate.variables)
    alike(again, losses(plain), since=SAVED + 1)


@pytest.mark.rare  # 11 s
def test_a_run_is_started_with_deepspeed(
    home: Path, tmp_path: Path, separate: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", separate.python)
    monkeypatch.syspath_prepend(str(separate.site))
    for name, value in separate.variables.items():
        monkeypatch.setenv(name, value)
    changes = {
        "engine": "zero2",
        "processes": 2,
        "device": "cpu",
        "steps": 2,
        "max_length": 96,
        "batch_size": 2,
        "bad_records": "fix",
    }
    made = start_run(load_preset("demo/full"), data=small_data(tmp_path), name="zero", changes=changes)
    assert wait_for_end(made, seconds=240).state == "finished", made.log()[0][-3000:]
    assert read_table(home / "state/deepspeed/loads.json")["deepspeed"] == deepspeed.installed()
    check_folder(made.path / "result")


# --- What an engine needs ---------------------------------------------------------------------------------------------

FULL = Settings(method="full")


def found(settings: Settings, device: str = "cpu") -> str | None:
    wrong = engines.problem(settings, device)
    return wrong.key if wrong else None


def test_what_is_asked_for_and_not_got_is_said(folder: Path) -> None:
    for name, kind in (("ddp", ShardingStrategy), ("fsdp", FSDPStrategy)):
        engine = strategy_of(replace(FULL, engine=name), DistributedContext(0, 2))
        assert type(engine) is kind
        wrong = problem(engine.bind, nn.Linear(2, 2), None, None)
        assert (wrong.key, wrong.values["found"]) == ("engines.not_used", "Linear")


def test_an_engine_that_divides_is_for_full_fine_tuning() -> None:
    assert found(Settings(method="lora", engine="fsdp")) == "engines.needs_full"
    assert found(Settings(method="lora", engine="ddp")) is None
    assert found(replace(FULL, engine="fsdp")) is None


@pytest.mark.slow
def test_deepspeed_that_is_absent_or_broken_is_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(deepspeed, "installed", lambda: None)
        assert found(replace(FULL, engine="zero2")) == "engines.no_deepspeed"
    (tmp_path / "deepspeed.py").write_text("raise OSError('no nvcc here')", encoding="utf-8")
    monkeypatch.setattr(
        "glmstudio.jobs.json_child.child_environment", lambda: {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    )
    monkeypatch.setattr(deepspeed, "installed", lambda: "0.19.8")
    wrong = engines.problem(replace(FULL, engine="zero3"), "cpu")
    assert wrong is not None
    assert (wrong.key, wrong.values) == ("engines.deepspeed_broken", {"reason": "no nvcc here"})


def test_a_compiler_that_is_absent_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepspeed, "check", lambda: None)
    monkeypatch.setattr(deepspeed, "search_path", lambda: str(tmp_path))
    wrong = engines.problem(replace(FULL, engine="zero2"), "cpu")
    assert wrong is not None
    assert (wrong.key, wrong.values["names"]) == ("engines.no_compiler", "g++, ninja")
    assert found(replace(FULL, engine="zero2"), "GPU-1") is None


@pytest.mark.parametrize(
    ("capability", "changes", "key"),
    [((7, 0), {}, "engines.fsdp_needs_bf16"), ((7, 0), {"dtype": "float32"}, None), ((8, 0), {}, None)],
)
def test_fsdp_wants_bfloat16(
    capability: tuple[int, int], changes: dict[str, Any], key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = SimpleNamespace(uuid="GPU-1", index=0, name="Tesla V100", capability=capability)
    monkeypatch.setattr(nvml, "read_cards", lambda: SimpleNamespace(gpus=[gpu]))
    assert found(replace(FULL, engine="fsdp", **changes), "GPU-1") == key
    assert found(replace(FULL, engine="fsdp", **changes), "GPU-2") is None


def test_a_start_refuses_what_an_engine_cannot_do(home: Path, tmp_path: Path) -> None:
    changes = {"engine": "fsdp", "device": "cpu"}
    wrong = problem(start_run, load_preset("demo/lora"), data=small_data(tmp_path), name="no", changes=changes)
    assert wrong.key == "engines.needs_full"
    assert not (home / "runs/no").exists()
