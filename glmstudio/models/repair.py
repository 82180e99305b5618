"""A damaged model made whole again, by fetching only what is broken.

Every file is read and compared with what the hub lists. A file of ours that lost a few bytes is fetched by the piece;
one that nobody wrote sums of is fetched whole. Weights that are sound but not the published ones are not replaced,
unless the user names what the folder should hold.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import read_json
from glmstudio.models import manifest, verification
from glmstudio.models.catalogue import Entry, catalogue
from glmstudio.models.hub.download import DownloadProgress, Options, Tell, download, lock
from glmstudio.models.verify import verify

_LAYOUTS = {".bin": "bin", ".safetensors": "safetensors"}


def repair(model: Entry, folder: Path, options: Options, tell: Tell) -> None:
    """Make the model in `folder` whole, from where it came from. Raises StudioError; nothing that is right is lost."""
    progress = DownloadProgress("checking")

    def reading(done: int, total: int) -> None:
        progress.done, progress.total = done, total
        tell(progress)

    with lock(folder):
        verification.forget(folder)
        problems = verify(folder, full=True, tell=reading) if folder.is_dir() else []
        broken = {Path(str(problem.values.get("file", ""))).name for problem in problems}
        converted = manifest.converted(folder)
        broken |= {name for name in converted if not (folder / name).is_file()}
        if broken & set(converted):
            _drop(folder, converted)
            converted = []
    # Converted weights that are right stay in use; at a hub there are only the published ones.
    layout = "none" if converted else layout_of(folder)
    download(model, folder, replace(options, layout=layout, broken=tuple(broken)), tell)


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
    raise StudioError("models.no_origin", folder=str(folder))


def layout_of(folder: Path) -> str:
    """The form of the weights that the folder has ("bin", "safetensors"); empty where there are none."""
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
