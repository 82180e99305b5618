"""A damaged model made whole again, by fetching only what is broken.

Every file is read and compared with what the hub lists. A file of ours that lost a few bytes is fetched by the piece;
one that nobody wrote sums of is fetched whole. Weights that are sound but not the published ones are not replaced,
unless the user names what the folder should hold.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import read_json
from glmstudio.models import manifest, verification
from glmstudio.models.catalogue import Entry, catalogue
from glmstudio.models.family import refuse_other_family
from glmstudio.models.folder import make_index, weight_files, weight_index
from glmstudio.models.hub.download import DownloadProgress, Options, Tell, download, lock
from glmstudio.models.verify import verify

_SAY_REPAIR = {  # problems whose remedy is a repair
    "models.missing_file", "models.no_index", "models.other_index", "models.other_size", "models.truncated",
    "models.unfinished", "models.vocabulary_broken", "models.vocabulary_other", "models.vocabulary_size",
    "models.web_page", "models.wrong_bytes",
}  # fmt: skip
_LAYOUTS = {".bin": "bin", ".safetensors": "safetensors"}


def repair(model: Entry, folder: Path, options: Options, tell: Tell) -> None:
    """Make the model in `folder` whole, from where it came from. Raises StudioError; nothing that is right is lost.

    A model that is at no hub is made whole from what is there, which can be enough: an index lists its shards.
    """
    progress = DownloadProgress("checking")

    def reading(done: int, total: int) -> None:
        progress.done, progress.total = done, total
        tell(progress)

    with lock(folder):
        verification.forget(folder)
        indexed = not options.replace and make_index(folder)
        problems = verify(folder, full=True, tell=reading) if folder.is_dir() else []
        if indexed and not problems:
            return
        if not model.published:
            raise StudioError("models.no_origin", folder=str(folder))
        broken = {name for problem in problems for name in _files_named(folder, problem)}
        converted = manifest.converted(folder)
        broken |= {name for name in converted if not (folder / name).is_file()}
        if broken & set(converted):
            _drop(folder, converted)
            converted = []
    # Converted weights that are right stay in use; at a hub there are only the published ones.
    layout = "none" if converted else layout_of(folder)
    try:
        download(model, folder, replace(options, layout=layout, broken=tuple(broken)), tell)
    except StudioError as problem:
        if problem.key in _SAY_REPAIR:  # what was just done
            raise StudioError("models.repair_failed", problem=problem) from problem
        raise


def _files_named(folder: Path, problem: StudioError) -> Iterator[str]:
    """The files that may be to blame for a problem: the one that it names, and the index that names that one."""
    file = Path(str(problem.values.get("file", "")))
    yield file.name
    if file.suffix in _LAYOUTS:
        with contextlib.suppress(StudioError, OSError):
            index = weight_index(folder)
            yield index.name if index else file.name


def origin(name: str, folder: Path) -> Entry:
    """The published model that the folder holds: as the download wrote it down, or as its own description says.

    Raises StudioError where neither tells.
    """
    known = catalogue()
    source, repo = manifest.origin(folder)
    if repo:
        for model in known.values():
            if model.repo(source) == repo:
                return model
        return Entry(repo.partition("/")[2], repo, repo, repo)
    if name in known:
        return known[name]
    config: Any = read_json(folder / "config.json", {})
    said = str(config.get("_name_or_path", "")) if isinstance(config, dict) else ""
    for part in (said.rsplit("/", 1)[-1].lower(), folder.name.lower()):
        if part in known:
            return known[part]
    if isinstance(config, dict) and config:
        refuse_other_family(folder, config)
    raise StudioError("models.no_origin", folder=str(folder))


def layout_of(folder: Path) -> str:
    """The form of the weights that the folder has ("bin", "safetensors"); empty where there are none."""
    with contextlib.suppress(StudioError, OSError):
        return _LAYOUTS.get(weight_files(folder)[0].suffix, "")
    for file in sorted(folder.glob("*")):
        if re.fullmatch(r"(pytorch_)?model[\w.-]*\.(bin|safetensors)", file.name):
            return _LAYOUTS[file.suffix]
    return ""


def _drop(folder: Path, converted: list[str]) -> None:
    """Broken weights that were converted here are at no hub: they make room for the published ones."""
    for name in sorted(converted, key=lambda each: not each.endswith(".index.json")):  # the index is the switch
        (folder / name).unlink(missing_ok=True)
    manifest.drop(folder, converted)
    manifest.note(folder, converted=[])
