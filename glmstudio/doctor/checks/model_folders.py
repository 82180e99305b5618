"""The model folders on this machine: placeholders, cut files and missing ones, found without reading the weights."""

from __future__ import annotations

import ast
import importlib.metadata
from pathlib import Path

from packaging.version import Version

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.errors import StudioError
from glmstudio.models import Model, list_models
from glmstudio.models.folder import folder_problems
from glmstudio.models.hub.partial_file import unfinished as arriving
from glmstudio.syntax import module
from glmstudio.units import size

_SHOWN = 5  # problems of a folder; a folder of placeholders has them by the dozen
_CHECKS = {
    "models.pointer": "model.lfs_pointer",
    "models.truncated": "model.shards",
    "models.missing_file": "model.shards",
    "models.no_index": "model.shards",
}
_SAFE_TORCH = Version("2.6")  # before it, reading .bin files could run what was hidden in them (CVE-2025-32434)
_UNFINISHED = (".incomplete", ".aria2", ".part", ".lock")

Folders = list[tuple[Model, list[tuple[str, StudioError]]]]


@check("model.lfs_pointer", family="models")
def placeholders(probes: Probes) -> list[Finding]:
    """Files of some 134 bytes that git leaves where its large-file extension is not installed."""
    return _findings(probes, "model.lfs_pointer") or [found("ok", "ok")]


@check("model.shards", family="models")
def shards(probes: Probes) -> list[Finding]:
    """Weights that are missing or end before their own header says."""
    return _findings(probes, "model.shards") or [found("ok", "ok")]


@check("model.files", family="models")
def files(probes: Probes) -> list[Finding]:
    """The rest of a model: its description and its tokenizer."""
    broken = _findings(probes, "model.files")
    if broken:
        return broken
    whole = [model for model, problems in probes.ask(read_folders) if not problems and not arriving(model.path)]
    names = ", ".join(model.title for model in whole)
    return [found("ok", "ok", names=names)] if names else []


@check("model.unfinished", family="models")
def unfinished(probes: Probes) -> list[Finding] | None:
    """What an interrupted download left beside the files."""
    left = []
    for model, _ in probes.ask(read_folders):
        if arrived := arriving(model.path):
            left.append(found("info", "ours", subject=model.name, name=model.title, key=model.name, size=size(arrived)))
            continue
        names = sorted(file.name for file in _entries(model.path) if file.name.endswith(_UNFINISHED))
        if names:
            left.append(found("info", "left", subject=model.name, names=", ".join(names[:3]), count=len(names)))
    return left or None


@check("model.code", family="models")
def own_code(probes: Probes) -> list[Finding] | None:
    """Whether a folder's own Python code fits new transformers. The studio never runs it; old scripts do."""
    return [
        found("ok", "old" if _breaks_on_new_transformers(file) else "new", subject=model.name)
        for model, _ in probes.ask(read_folders)
        if (file := model.path / "tokenization_chatglm.py").is_file()
    ] or None


@check("torch.load_bin", family="models")
def pickled_weights(probes: Probes) -> Finding | None:
    """Weights in PyTorch's old format, which old versions of PyTorch do not read safely."""
    names = [model.name for model, _ in probes.ask(read_folders) if _has_only_bin(model.path)]
    if not names:
        return None
    version = importlib.metadata.version("torch").partition("+")[0]
    if Version(version) < _SAFE_TORCH:
        return found("error", "unsafe", names=", ".join(names), version=version, action="torch.install")
    return found("ok", "ok", names=", ".join(names))


def read_folders() -> Folders:
    """Every model with its problems, each given to the check that tells it."""
    read: Folders = []
    for model in list_models():
        if arriving(model.path):  # nothing is wrong with a model that is on its way
            read.append((model, []))
            continue
        try:
            problems = list(folder_problems(model.path))
        except OSError as error:
            problems = [StudioError("models.unreadable", folder=str(model.path), reason=error.strerror or str(error))]
        read.append((model, [(_belongs_to(problem), problem) for problem in problems]))
    return read


def _belongs_to(problem: StudioError) -> str:
    if _file_name(problem) in ("tokenizer.model", "tokenizer.json", "config.json"):
        return "model.lfs_pointer" if problem.key == "models.pointer" else "model.files"
    return _CHECKS.get(problem.key, "model.files")


def _findings(probes: Probes, name: str) -> list[Finding]:
    return [
        found("error", "broken", subject=f"{model.name} {_file_name(problem)}".strip(), problem=problem)
        for model, problems in probes.ask(read_folders)
        for problem in [problem for check_name, problem in problems if check_name == name][:_SHOWN]
    ]


def _file_name(problem: StudioError) -> str:
    return Path(str(problem.values.get("file", ""))).name


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _has_only_bin(folder: Path) -> bool:
    suffixes = {file.suffix for file in _entries(folder)}
    return ".bin" in suffixes and ".safetensors" not in suffixes


def _breaks_on_new_transformers(file: Path) -> bool:
    """Whether its `_pad` lacks the argument that transformers 4.45 and later pass. Read, never run."""
    try:
        tree = module(file.read_bytes()[:1_000_000])
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    pads = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_pad"]
    return any(
        pad.args.kwarg is None and "padding_side" not in {arg.arg for arg in (*pad.args.args, *pad.args.kwonlyargs)}
        for pad in pads
    )
