"""The models on this computer: the demo, downloaded ones, and folders that the user pointed at."""

from __future__ import annotations

import contextlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.families.recognition import family_of
from glmstudio.files import read_json, write_json
from glmstudio.models import manifest, verification
from glmstudio.models.catalogue import catalogue, remove_id
from glmstudio.models.contents.vocabulary import TOKENIZER_FILES
from glmstudio.models.folder import check_folder, model_files
from glmstudio.models.hub.partial_file import WORK
from glmstudio.models.verify import content_problems, verify
from glmstudio.paths import DEMO, paths

log = logging.getLogger(__name__)

DEMO_NAME = "demo"
_SMALL = 64 << 20  # bytes; what is smaller is verified when it is used, which takes no noticeable time


@dataclass(frozen=True)
class Model:
    """One model folder; `problem` says why it cannot be used, and is None where it can."""

    name: str
    title: str
    path: Path
    kind: str
    size_bytes: int
    problem: StudioError | None

    @property
    def ready(self) -> bool:
        """Whether the folder is whole and, where it is large, verified by every byte."""
        return self.problem is None

    @property
    def unverified(self) -> bool:
        """Whether nothing is known to be wrong, and only the proof is missing."""
        return self.problem is not None and self.problem.key == "models.unverified"


def list_models() -> list[Model]:
    """Every model: the demo first, then what lies in the models folder, then added folders, by name."""
    folders = {DEMO_NAME: DEMO / "model"}
    added = {name: Path(path) for name, path in sorted(_added().items())}
    known = catalogue()
    for file in sorted(paths().models.glob("*/config.json")):
        name = file.parent.name
        folders.setdefault(name, added.get(name, file.parent) if name in known else file.parent)
    for name, path in added.items():
        if name not in known or (path / "config.json").is_file():  # a download that has not begun is no model yet
            folders.setdefault(name, path)
    return [_model(name, folder) for name, folder in folders.items()]


def find_model(name_or_dir: str) -> Model:
    """The model of that name, or of that folder. Raises StudioError where there is neither."""
    for model in list_models():
        if model.name == name_or_dir:
            return model
    folder = _folder(name_or_dir)
    if folder is None:
        if name_or_dir in catalogue():
            raise StudioError("models.not_here", name=name_or_dir)
        raise StudioError("models.unknown", name=name_or_dir)
    return next((model for model in list_models() if model.path == folder), _model(folder.name, folder))


def ready_model(name_or_dir: str) -> Model:
    """As `find_model`, but a model that cannot be used is an error that says why. Small ones are verified now."""
    model = find_model(name_or_dir)
    if model.problem:
        raise model.problem
    if verification.is_verified(model.path) is None:
        for problem in verify(model.path, full=True):
            raise problem
    return model


def place_of(name: str) -> Path:
    """The folder that a model of the catalogue has, or would have."""
    added = _added().get(name)
    return Path(added) if added else paths().models / name


def set_place(name: str, folder: Path) -> None:
    """Remember that the model of that name lies in, or goes to, a folder of the user's choice."""
    others = {known: path for known, path in _added().items() if known != name}
    here = {} if folder == paths().models / name else {name: str(folder)}
    if _added() != others | here:
        write_json(_added_file(), others | here)


def add_folder(path: str) -> Model:
    """Remember a folder of the user's. Raises StudioError unless it holds a whole model."""
    folder = _folder(path.strip())
    if folder is None:
        raise StudioError("models.no_folder", folder=path.strip())
    found = _model(folder.name, folder)
    if found.problem and not found.unverified:
        raise found.problem
    for problem in content_problems(folder):
        raise problem
    added = _added()
    for model in list_models():
        if model.path == folder:
            return model
    taken = {model.name for model in list_models()} | set(added)
    name, number = folder.name, 2
    while name in taken:
        name, number = f"{folder.name}-{number}", number + 1
    write_json(_added_file(), added | {name: str(folder)})
    return _model(name, folder)


def remove_folder(name: str) -> None:
    """Forget an added folder (its files stay) or an added id. Raises StudioError for a name that was not added."""
    added = _added()
    if name in added:
        del added[name]
        write_json(_added_file(), added)
    elif not remove_id(name):
        raise StudioError("models.not_added", name=name)


def owned(folder: Path) -> bool:
    """Whether the studio may delete the model's files: they lie in its own folder of models."""
    return not folder.is_symlink() and folder.resolve().parent == paths().models.resolve()


def check_owned(name: str) -> None:
    """Raise StudioError for the demo, and for folders that are the user's own."""
    folder = paths().models / name
    if name == DEMO_NAME or Path(name).name != name or not owned(folder) or not folder.is_dir():
        raise StudioError("models.not_ours", name=name)


def delete_files(name: str) -> int:
    """Delete the files of a downloaded model; returns the bytes that became free. What is not a model's stays."""
    check_owned(name)
    folder, freed = paths().models / name, 0
    for file in _files_of(folder):
        if file.is_file() or file.is_symlink():
            freed += file.lstat().st_size
            file.unlink()
    for work in (WORK, ".convert"):
        shutil.rmtree(folder / work, ignore_errors=True)
    verification.forget(folder)
    return freed


def _files_of(folder: Path) -> list[Path]:
    """The files that a model consists of, as the manifest or its own index names them; plain names only."""
    names = {manifest.NAME, "config.json", *TOKENIZER_FILES, *manifest.files(folder)}
    with contextlib.suppress(StudioError, OSError):
        names |= {file.name for file in model_files(folder)}
    # The config goes last: without it the rest would be a folder that nobody recognises.
    return [folder / each for each in sorted(names, key=lambda each: (each == "config.json", each))]


def _folder(path: str) -> Path | None:
    """The folder that a person named; None where there is none, or where no folder can have such a name."""
    try:
        folder = Path(path).expanduser().resolve()
        return folder if path and folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long, closed to us; an unknown user's ~; a zero byte
        return None


def _model(name: str, folder: Path) -> Model:
    size = _size(folder)
    demo = name == DEMO_NAME
    known = catalogue().get(name)
    title = "GLM Studio demo" if demo else known.title if known else name
    return Model(name, title, folder, "demo" if demo else family_of(folder).name, size, _problem(name, folder, size))


def _problem(name: str, folder: Path, size: int) -> StudioError | None:
    try:
        check_folder(folder)
        if size > _SMALL and verification.is_verified(folder) is None:
            return StudioError("models.unverified", name=name)
    except StudioError as error:
        return error
    except OSError as error:
        return StudioError("models.unreadable", folder=str(folder), reason=error.strerror or str(error))
    except Exception as error:  # whatever a folder from outside holds, it is a model with a problem, not the end
        log.exception("A model folder could not be looked at")
        return StudioError("models.unreadable", folder=str(folder), reason=type(error).__name__)
    return None


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    except OSError:
        return 0


def _added_file() -> Path:
    return paths().state / "models.json"


def _added() -> dict[str, str]:
    table = read_json(_added_file(), {})
    return {str(name): str(path) for name, path in table.items()} if isinstance(table, dict) else {}
