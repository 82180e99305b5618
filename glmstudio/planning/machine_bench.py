"""What this machine can do: measured in a child process in two minutes, kept, and turned into what to expect.

state/bench.json    the last measurement: when, on which machine, what was found, and the memory that there was
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from glmstudio.config.devices import CPU, choose
from glmstudio.errors import LazyText, StudioError
from glmstudio.files import read_table, write_json
from glmstudio.models import Model, list_models
from glmstudio.models.catalogue import catalogue
from glmstudio.models.folder import weight_files
from glmstudio.models.library import DEMO_NAME
from glmstudio.paths import paths
from glmstudio.planning.expectation import LEARNED, PROMPT, TOKENS, Candidate, Expectation, Verdict, expect, verdict
from glmstudio.planning.memory_fit import KNOWN, DeviceMemory, device_memory_of
from glmstudio.planning.model_shape import ModelShape, shape_of
from glmstudio.rundir.launch import training_environment
from glmstudio.rundir.occupancy import run_on
from glmstudio.system import process
from glmstudio.system.die_with_parent import on_leash
from glmstudio.system.environment import processor_name
from glmstudio.system.portable.signals import KILL

STAGES = {
    name: LazyText(f"bench.stage.{name}")
    for name in ["start", "product", "stream", "place", "disk", "answering", "ptuning_v2", "lora", "small", "head"]
}
_FIRST = "start"
_MOST = 1e18  # a figure beyond it is none
_VERSION = 1
_LIMIT_S = 300.0
_LARGE = 100_000_000  # bytes: a smaller file of weights says little about a disk
_START_S = 75.0  # about, before the child has said anything

Tell = Callable[[str, float], None]  # the stage, and the seconds that are left, about


@dataclass(frozen=True)
class BenchRequest:
    """What a child measures (`train.measuring.measure`). `seconds` for each simple figure; `weights` is a file to read,
    else a temporary one of at most `disk_bytes` is made in `folder`."""

    device: str
    shapes: dict[str, ModelShape]
    weights: Path | None
    folder: Path
    seconds: float = 2.0
    disk_bytes: int = 1 << 30
    tokens: tuple[int, ...] = (TOKENS,)
    prompt: int = PROMPT
    learned: int = LEARNED


@dataclass(frozen=True)
class MeasuredMachine:
    """Which machine was measured; `card` is empty without one. Memory in bytes."""

    card: str
    processor: str
    cores: int
    memory: int


@dataclass(frozen=True)
class Bench:
    """A measurement and what follows from it. `time` is seconds since 1970, `seconds` how long it took; `found` as
    `glmstudio.train.measuring.measure` found it."""

    time: float
    seconds: float
    machine: MeasuredMachine
    place: DeviceMemory
    found: dict[str, Any]
    expectations: tuple[Expectation, ...]
    verdict: Verdict
    kept: bool = True  # whether it could be written down

    def to_json(self) -> dict[str, Any]:
        """A form for other programs; speeds of products in TFLOP/s, of bytes in GB/s, other units in the names."""
        return {
            "version": _VERSION,
            "time": self.time,
            "seconds": round(self.seconds, 1),
            "machine": dataclasses.asdict(self.machine),
            "place": dataclasses.asdict(self.place),
            "measured": self.found,
            "expected": [dataclasses.asdict(each) for each in self.expectations],
            "verdict": dataclasses.asdict(self.verdict),
        }


def bench(tell: Tell = lambda _stage, _left: None) -> Bench:
    """Measure this machine, and keep what was found. Raises StudioError; an interrupt ends the child."""
    device = choose("auto")
    if held := run_on(device):
        raise StudioError("bench.held", name=held.name)
    card = device_memory_of(device, alone=True)
    begun = time.monotonic()
    found = measure(_ask(device), tell)
    # A PyTorch that cannot use the GPU computes on the processor, and so would a run.
    place = card if found["device"] != CPU else device_memory_of(CPU, alone=True)
    kept = {
        "version": _VERSION,
        "time": time.time(),
        "seconds": time.monotonic() - begun,
        "machine": dataclasses.asdict(_machine(card.name)),
        "place": dataclasses.asdict(place),
        "found": found,
    }
    try:
        write_json(_file(), kept)
    except OSError:  # it took two minutes: it is told all the same
        return dataclasses.replace(_made(kept), kept=False)
    return _made(kept)


def last() -> Bench:
    """The measurement that was kept, with what follows from it now. Raises StudioError where there is none."""
    kept = read_table(_file())
    try:
        return _made(kept)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise StudioError("bench.none") from error


def measure(ask: BenchRequest, tell: Tell) -> dict[str, Any]:
    """What a child finds. Raises StudioError where it cannot be started, dies, finds nonsense or takes too long."""
    if importlib.util.find_spec("torch") is None:
        raise StudioError("bench.no_torch")
    stage = _FIRST
    tell(stage, _START_S)
    with tempfile.TemporaryDirectory(prefix="glmstudio-bench-") as work:
        file, log = Path(work) / "bench.json", Path(work) / "log"
        write_json(file, {"ask": _plain(ask)})
        child = _start(file, log, ask.device)
        end = time.monotonic() + _LIMIT_S
        try:
            while child.poll() is None:
                told = read_table(file)
                if told.get("stage"):
                    stage = told["stage"]
                    tell(stage, float(told["left"]))
                if time.monotonic() > end:
                    raise StudioError("bench.too_slow", stage=STAGES[stage])
                time.sleep(0.2)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
        told = read_table(file)
        if problem := told.get("problem"):
            raise StudioError.from_json(problem)
        if not told.get("done"):
            raise _death(child.returncode, str(told.get("stage") or _FIRST), log)
        found: dict[str, Any] = told["found"]
        return found


def candidates() -> tuple[Candidate, ...]:
    """The models that can be tuned and whose shape is known, those of the catalogue's first page and those that are
    here: each shape takes a minute or two. Then the demo."""
    here = {model.name: model for model in list_models()}
    entries = [entry for entry in catalogue().values() if "finetune" in entry.can and entry.name in KNOWN]
    entries = [entry for entry in entries if not entry.more or entry.name in here]
    keys: dict[ModelShape, str] = {}
    made = []
    for entry in entries:
        shape, model = KNOWN[entry.name], here.get(entry.name)
        key = keys.setdefault(shape, entry.name)
        made.append(Candidate(entry.name, entry.title, bool(model and model.ready), entry.size_bytes, shape, key))
    demo = here[DEMO_NAME]
    return (*made, Candidate(demo.name, demo.title, demo.ready, demo.size_bytes, shape_of(demo.path), demo.name))


def cores() -> int:
    """How many cores a child may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ask(device: str) -> BenchRequest:
    models = list_models()
    folder = paths().models
    while not folder.exists():
        folder = folder.parent
    weights = max((file for model in models if model.ready for file in _weights(model)), key=_size, default=None)
    if weights is not None and _size(weights) < _LARGE:
        weights = None
    shapes = {each.key: each.shape for each in candidates()}
    return BenchRequest(device, shapes, weights, folder, tokens=(TOKENS,) if device == CPU else (TOKENS, 2048))


def _weights(model: Model) -> list[Path]:
    try:
        return weight_files(model.path)
    except StudioError:
        return []


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _plain(ask: BenchRequest) -> dict[str, Any]:
    paths_as_text = {"weights": str(ask.weights) if ask.weights else "", "folder": str(ask.folder)}
    return dataclasses.asdict(ask) | paths_as_text


def _start(file: Path, log: Path, device: str) -> subprocess.Popen[bytes]:
    command = on_leash([sys.executable, "-m", "glmstudio.train.measuring.measure", str(file)])
    with log.open("wb") as stream:
        return process.spawn(command, stream, uuid.uuid4().hex, variables=training_environment(device))


def _death(code: int, stage: str, log: Path) -> StudioError:
    """Why a child died that left no word."""
    if code == -KILL:
        return StudioError("bench.killed", stage=STAGES[stage])
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else str(code))
    return StudioError("bench.broke", stage=STAGES[stage], reason=said[-300:])


def _made(kept: dict[str, Any]) -> Bench:
    if kept["version"] != _VERSION:
        raise ValueError(kept["version"])
    place, found = DeviceMemory(**kept["place"]), kept["found"]
    figures = [kept["time"], kept["seconds"], *(kept["machine"][name] for name in ("cores", "memory"))]
    figures += [found[name] for name in ("product", "product_again", "stream", "place")]
    if not all(isinstance(each, (int, float)) and 0 < each < _MOST for each in figures):
        raise ValueError(figures)
    if not found["models"] or "disk" not in found:
        raise KeyError("models")
    expectations = tuple(expect(each, found, place) for each in candidates())
    return Bench(
        float(kept["time"]),
        float(kept["seconds"]),
        MeasuredMachine(**kept["machine"]),
        place,
        found,
        expectations,
        verdict(expectations),
    )


def _machine(card: str) -> MeasuredMachine:
    return MeasuredMachine(card, processor_name(), cores(), int(psutil.virtual_memory().total))


def _file() -> Path:
    return paths().state / "bench.json"
