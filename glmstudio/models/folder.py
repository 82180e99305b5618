"""A model folder looked at without loading it: is it a whole model of a known family; if not, which file is wrong and
why.

Takes milliseconds for 12 GB: names, sizes, headers and the index are read, never the weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.families.recognition import family_of
from glmstudio.files import read_json, write_json
from glmstudio.models import manifest
from glmstudio.models.contents import native_form
from glmstudio.models.contents.torch_table import mentions
from glmstudio.models.contents.vocabulary import check_vocabulary, vocabulary_file
from glmstudio.models.contents.weight_file import check_weights, present, safetensors_header, tensor_headers
from glmstudio.models.family import OTHER_KIND, refuse_impossible, refuse_other_family

PREFIX = "prefix_encoder."
_SCALES = "weight_scale"  # of ChatGLM's own 8- and 4-bit weights
_STEMS = (("model", "safetensors"), ("pytorch_model", "bin"))
_SHARDS = re.compile(r"(model|pytorch_model)-(\d{5})-of-(\d{5})\.(safetensors|bin)")
_MOST_SHARDS = 1000
_SHARD = re.compile(r"\w[\w.-]{0,199}")
_GGML = ("*.gguf", "*ggml*.bin")


@dataclass(frozen=True)
class WeightSet:
    """One set of weights in a folder: its files, and the file that says in which of them each tensor is."""

    files: tuple[Path, ...]
    index: Path | None = None


def check_folder(folder: Path) -> None:
    """Raise StudioError, naming the file and the remedy, unless `folder` holds a whole model of a known family."""
    for problem in folder_problems(folder):
        raise problem


def folder_problems(folder: Path) -> Iterator[StudioError]:
    """Everything that keeps `folder` from being a whole model, with the file and the remedy."""
    wrong = list(_problem(read_config, folder))
    yield from wrong
    if not folder.is_dir() or any(problem.key in OTHER_KIND for problem in wrong):
        return
    yield from _problem(_check_vocabulary, folder)
    try:
        files = weight_files(folder)
    except StudioError as problem:
        yield problem
        return
    broken = [problem for file in files for problem in _problem(check_weights, file)]
    yield from broken
    if not broken:
        yield from _problem(_check_index, folder)
        if not wrong:
            yield from _problem(_refuse_quantised, folder)
    if manifest.read(folder).get("whole") is False:
        yield StudioError("models.unfinished", folder=str(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder; ChatGLM3's in the words of the published layout whichever of the two it has.

    Raises StudioError where it is absent or of another model.
    """
    file = folder / "config.json"
    if not folder.is_dir():
        raise StudioError("models.no_folder", folder=str(folder))
    if not file.is_file():
        raise StudioError("models.no_config", folder=str(folder))
    config = read_json(file)
    if not isinstance(config, dict):
        raise StudioError("models.bad_json", file=str(file))
    config = native_form.published_form(config, file)
    refuse_other_family(folder, config)
    refuse_impossible(file, config)
    return config


def weights_in_use(folder: Path) -> WeightSet:
    """The weights that are loaded: of several sets the first whole one, safetensors before the others; where none is
    whole, the first. Raises StudioError for none."""
    heads, unlisted = _heads(folder), _unlisted(folder)
    if len(heads) > 1 or unlisted:
        whole = next(filter(_is_whole, heads), None)
        if whole is not None:
            return _set_of(whole)
    if unlisted and (not heads or unlisted.whole):
        raise StudioError("models.no_index", file=str(unlisted.index), count=len(unlisted.files), total=unlisted.total)
    if heads:
        return _set_of(heads[0])
    for file in (each for pattern in _GGML for each in sorted(folder.glob(pattern))):
        raise StudioError("models.ggml", file=str(file))
    raise StudioError("models.no_weights", folder=str(folder))


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights in use. Raises StudioError for none."""
    return list(weights_in_use(folder).files)


def weight_index(folder: Path) -> Path | None:
    """The file that says in which shard each tensor is; None where the weights in use are one file."""
    return weights_in_use(folder).index


def model_files(folder: Path) -> list[Path]:
    """The files that make the model: config, tokenizer, the weights in use and their index. Raises StudioError."""
    held = weights_in_use(folder)
    index = [held.index] if held.index else []
    return [folder / "config.json", vocabulary_file(folder), *index, *held.files]


def lacks_index(folder: Path) -> bool:
    """Whether all that keeps the weights from being used is that no index lists their shards."""
    try:
        weights_in_use(folder)
    except StudioError as problem:
        found = _unlisted(folder)
        return problem.key == "models.no_index" and found is not None and found.whole
    return False


def make_index(folder: Path) -> bool:
    """Write the index that shards lack, from their own headers. Raises StudioError where these cannot be read."""
    found = _unlisted(folder) if lacks_index(folder) else None
    if found is None:
        return False
    table = {name: file.name for file in found.files for name in tensor_headers(file)}
    if table:
        write_json(found.index, {"metadata": {}, "weight_map": table})
    return bool(table)


def holds_prefix(folder: Path) -> bool:
    """Whether the weights in use hold a P-Tuning prefix beside the model. Raises StudioError."""
    return _names(folder, PREFIX)


def _heads(folder: Path) -> list[Path]:
    """The file that decides of each set of weights: its index, or the one file that it is."""
    names = [f"{stem}.{end}.index.json" for stem, end in _STEMS] + [f"{stem}.{end}" for stem, end in _STEMS]
    return [folder / name for name in names if (folder / name).is_file()]


def _set_of(head: Path) -> WeightSet:
    if head.suffix != ".json":
        return WeightSet((head,))
    return WeightSet(tuple(head.with_name(shard) for shard in sorted(set(_weight_map(head).values()))), head)


def _is_whole(head: Path) -> bool:
    try:
        held = _set_of(head)
        for file in held.files:
            check_weights(file)
        _check_listed(held)
    except (StudioError, OSError):
        return False
    return True


@dataclass(frozen=True)
class _Unlisted:
    """Shards that no index lists: those that are there, and how many there should be by their names."""

    index: Path
    files: tuple[Path, ...]
    total: int

    @property
    def whole(self) -> bool:
        return len(self.files) == self.total and all(not list(_problem(check_weights, file)) for file in self.files)


def _unlisted(folder: Path) -> _Unlisted | None:
    for stem, end in _STEMS:
        index = folder / f"{stem}.{end}.index.json"
        found = [match for file in folder.glob(f"{stem}-*-of-*.{end}") if (match := _SHARDS.fullmatch(file.name))]
        if found and not index.exists():
            total = int(found[0][3])
            files = sorted(folder / match[0] for match in found if int(match[3]) == total)
            return _Unlisted(index, tuple(files), total)
    return None


def _names(folder: Path, part: str) -> bool:
    """Whether a tensor of the weights in use has this in its name."""
    held = weights_in_use(folder)
    if held.index:
        return any(part in name for name in _weight_map(held.index))
    file = held.files[0]
    if file.suffix == ".safetensors":
        return any(part in name for name in safetensors_header(file))
    return mentions(file, part)


def _check_vocabulary(folder: Path) -> None:
    check_vocabulary(vocabulary_file(folder), family_of(folder))


def _refuse_quantised(folder: Path) -> None:
    if _names(folder, _SCALES):
        raise StudioError("models.quantised_tensors", folder=str(folder))


def _problem(check: Callable[[Path], Any], path: Path) -> Iterator[StudioError]:
    try:
        check(path)
    except StudioError as problem:
        yield problem


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> shard's file name (never a path: the index is input from outside)."""
    present(index)
    table = read_json(index)
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict):
        raise StudioError("models.bad_json", file=str(index))
    given = {shard for shard in names.values() if isinstance(shard, str)}
    plain = {shard: Path(shard).name for shard in given} if len(given) <= _MOST_SHARDS else {}
    sound = all(isinstance(shard, str) for shard in names.values()) and all(map(_SHARD.fullmatch, plain.values()))
    if not plain or not sound:
        raise StudioError("models.bad_json", file=str(index))
    return {tensor: plain[shard] for tensor, shard in names.items()}


def _check_index(folder: Path) -> None:
    """Raise StudioError where the shards are whole, but not those that the index or the download speaks of."""
    held, known = weights_in_use(folder), manifest.files(folder)
    for file in held.files:
        size, noted = file.stat().st_size, known.get(file.name, {}).get("size")
        if noted not in (None, size):
            raise StudioError("models.other_size", file=str(file), size=size, wanted=noted)
    _check_listed(held)


def _check_listed(held: WeightSet) -> None:
    wanted = _weight_map(held.index) if held.index else {}
    for file in held.files:
        tensors = {tensor for tensor, shard in wanted.items() if shard == file.name}
        if file.suffix == ".safetensors" and not tensors <= safetensors_header(file).keys():
            raise StudioError("models.other_index", file=str(file), index=str(held.index))
