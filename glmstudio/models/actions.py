"""What a person can have done with a model: each starts a job in the background, or says why it cannot."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.models import jobs, manifest
from glmstudio.models.catalogue import SOURCES, Entry, accept_licence, catalogue, entry, is_id, licence_accepted
from glmstudio.models.folder import lacks_index
from glmstudio.models.hub.download import Options, discard, lock
from glmstudio.models.hub.hubs import CONNECTIONS, MOST_CONNECTIONS
from glmstudio.models.hub.id_lookup import id_in
from glmstudio.models.hub.partial_file import unfinished
from glmstudio.models.job_process import options_of
from glmstudio.models.library import DEMO_NAME, check_owned, delete_files, find_model, place_of, set_place
from glmstudio.models.repair import layout_of, origin
from glmstudio.paths import paths
from glmstudio.system.environment import in_wsl
from glmstudio.system.typed_path import bare_path, from_windows
from glmstudio.units import size


def start_download(
    name: str, *, source: str = "auto", connections: int = CONNECTIONS, to: str = "", accept: bool = False
) -> Path:
    """Download a model of the catalogue, or go on with it; returns its folder.

    `accept` says that the licence was read and accepted. Raises StudioError.
    """
    model = entry(name)
    if accept:
        accept_licence(model)
    if not licence_accepted(model):
        raise StudioError("models.licence", title=model.title, link=model.licence)
    folder = _target(to, name) if to else place_of(name)
    _check_room(model, folder)
    before = place_of(name)
    if folder != before and unfinished(before):
        raise StudioError("models.elsewhere", name=name, folder=str(before))
    set_place(name, folder)
    jobs.start("download", name, folder, options_of(model, _options(source, connections, folder)))
    return folder


def typed(text: str) -> str:
    """The id or the folder that a person typed or pasted, as it is meant. Raises StudioError for nothing, a file, and
    a path of Windows that leads nowhere here."""
    told = bare_path(text)
    if not told:
        raise StudioError("models.nothing_typed")
    repo = id_in(told)
    if repo != told or names_id(repo):
        return repo
    folder = _here(told)
    if _is_file(folder):
        raise StudioError("models.not_a_folder", file=folder, folder=str(Path(folder).parent))
    return folder


def names_id(told: str) -> bool:
    """Whether it is a hub's id, and no folder beside us that happens to be called so."""
    return is_id(told) and not Path(told).is_dir()


def start_verify(name_or_dir: str) -> Path:
    """Read every byte of a model and compare it."""
    model = find_model(name_or_dir)
    jobs.start("verify", model.name, model.path, {})
    return model.path


def start_repair(name_or_dir: str, *, source: str = "auto", connections: int = CONNECTIONS, known_as: str = "") -> Path:
    """Fetch again what is broken. `known_as` names the model of the catalogue where the folder does not tell."""
    name, folder = name_and_folder(name_or_dir)
    if name == DEMO_NAME:
        raise StudioError("models.not_in_catalogue", name=name)
    try:
        model = entry(known_as) if known_as else origin(name, folder)
    except StudioError as problem:
        if problem.key != "models.no_origin" or not lacks_index(folder):
            raise
        model = Entry(name, name)  # what it lacks is made from what it has
    options = replace(_options(source, connections, folder), replace=bool(known_as))
    jobs.start("repair", name, folder, options_of(model, options))
    return folder


def start_convert(name_or_dir: str, *, dtype: str = "float16", drop_originals: bool = False) -> Path:
    """Write the weights anew as safetensors, beside the originals or in their place."""
    model = find_model(name_or_dir)
    if model.problem:
        raise model.problem
    jobs.start("convert", model.name, model.path, {"dtype": dtype, "drop_originals": drop_originals})
    return model.path


def resume(name_or_dir: str) -> Path:
    """Go on with a download or repair as it was asked for, from where it was."""
    name, folder = name_and_folder(name_or_dir)
    job = jobs.read(folder)
    if job is None or not job.resumable:
        raise StudioError("models.no_job", model=name)
    jobs.start(job.kind, job.model, folder, job.options or {})
    return folder


def pause(name_or_dir: str) -> Path:
    """Stop what is being done; a download goes on later from where it was."""
    name, folder = name_and_folder(name_or_dir)
    job = jobs.read(folder)
    if job is None or not job.live:
        raise StudioError("models.no_job", model=name)
    jobs.pause(folder)
    return folder


def cancel(name_or_dir: str) -> int:
    """Give a download up and delete what it brought; anything else is only stopped. Returns the bytes freed."""
    name, folder = name_and_folder(name_or_dir)
    job = jobs.read(folder)
    if job is None:
        raise StudioError("models.no_job", model=name)
    jobs.pause(folder)
    others = job.problem is not None and job.problem.key == "models.locked"  # what is there is another studio's work
    freed = discard(folder) if job.kind == "download" and not others else 0
    jobs.forget(folder)
    if name in catalogue() and not folder.exists():
        set_place(name, paths().models / name)
    return freed


def delete(name: str) -> int:
    """Delete a downloaded model; returns the bytes that became free. Raises StudioError, also for the user's own."""
    folder = paths().models / name
    job = jobs.read(folder)
    if job and job.live:
        raise StudioError("models.job_busy", model=name)
    check_owned(name)
    with lock(folder):
        freed = delete_files(name)
    with contextlib.suppress(OSError):  # something of the user's is in it: that stays
        folder.rmdir()
    jobs.forget(folder)
    return freed


def name_and_folder(name_or_dir: str) -> tuple[str, Path]:
    """The model of that name or in that folder, whether it is whole, in the making, or only a plan."""
    if name_or_dir in catalogue():
        return name_or_dir, place_of(name_or_dir)
    model = find_model(name_or_dir)
    return model.name, model.path


def _options(source: str, connections: int, folder: Path) -> Options:
    if source != "auto" and source not in SOURCES:
        raise StudioError("models.source_unknown", name=source)
    return Options(
        sources=SOURCES if source == "auto" else (source,),
        connections=max(1, min(MOST_CONNECTIONS, connections)),
        layout="none" if _is_converted(folder) else layout_of(folder),
    )


def _is_converted(folder: Path) -> bool:
    names = manifest.converted(folder)
    return bool(names) and all((folder / name).is_file() for name in names)


def _target(to: str, name: str) -> Path:
    """The folder for a model: the one that was named, or one in it where it holds other things."""
    try:
        folder = Path(_here(bare_path(to))).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise StudioError("models.unwritable", folder=to, reason=str(error)) from error
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file() and folder.name != name:
        return folder / name
    return folder


def _here(path: str) -> str:
    """A path as this machine has it. Raises StudioError for one of Windows that leads nowhere here."""
    found = from_windows(path)
    if found == "":
        raise StudioError("models.windows_elsewhere" if in_wsl() else "models.windows_path", path=path)
    return path if found is None else found


def _is_file(path: str) -> bool:
    try:
        return Path(path).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # no path at all: the folder is looked for, and not found
        return False


def _check_room(model: Entry, folder: Path) -> None:
    """Say at once what the download would say after asking the hub, as far as the size is known."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    have = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    free = shutil.disk_usage(existing).free
    if model.size_bytes - have > free:
        raise StudioError("models.disk_full", folder=str(folder), need=size(model.size_bytes - have), free=size(free))
