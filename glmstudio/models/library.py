"""The models on this computer: the demo, downloaded ones, and folders that the user pointed at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.models.folder import check_folder
from glmstudio.paths import DEMO, paths

DEMO_NAME = "demo"


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
        """Whether the folder is whole."""
        return self.problem is None


def list_models() -> list[Model]:
    """Every model: the demo first, then what lies in the models folder, then added folders, by name."""
    models = {DEMO_NAME: _model(DEMO_NAME, DEMO / "model")}
    for folder in sorted(paths().models.glob("*/config.json")):
        models.setdefault(folder.parent.name, _model(folder.parent.name, folder.parent))
    for name, path in sorted(_added().items()):
        models.setdefault(name, _model(name, Path(path)))
    return list(models.values())


def find_model(name_or_dir: str) -> Model:
    """The model of that name, or of that folder. Raises StudioError where there is neither."""
    for model in list_models():
        if model.name == name_or_dir:
            return model
    folder = _folder(name_or_dir)
    if folder is None:
        raise StudioError("models.unknown", name=name_or_dir)
    return _model(folder.name, folder)


def ready_model(name_or_dir: str) -> Model:
    """As `find_model`, but a model that cannot be used is an error that says why."""
    model = find_model(name_or_dir)
    if model.problem:
        raise model.problem
    return model


def add_folder(path: str) -> Model:
    """Remember a folder of the user's. Raises StudioError unless it holds a whole ChatGLM3."""
    folder = _folder(path.strip())
    if folder is None:
        raise StudioError("models.no_folder", folder=path.strip())
    found = _model(folder.name, folder)
    if found.problem:
        raise found.problem
    added = _added()
    for name, known in added.items():
        if Path(known) == folder:
            return _model(name, folder)
    taken = {model.name for model in list_models()}
    name, number = folder.name, 2
    while name in taken:
        name, number = f"{folder.name}-{number}", number + 1
    write_json(_added_file(), added | {name: str(folder)})
    return _model(name, folder)


def remove_folder(name: str) -> None:
    """Forget an added folder; its files stay. Raises StudioError for a name that was not added."""
    added = _added()
    if name not in added:
        raise StudioError("models.not_added", name=name)
    del added[name]
    write_json(_added_file(), added)


def _folder(path: str) -> Path | None:
    """The folder that a person named; None where there is none, or where no folder can have such a name."""
    try:
        folder = Path(path).expanduser().resolve()
        return folder if path and folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long, closed to us; an unknown user's ~; a zero byte
        return None


def _model(name: str, folder: Path) -> Model:
    try:
        check_folder(folder)
        problem = None
    except StudioError as error:
        problem = error
    except OSError as error:
        problem = StudioError("models.unreadable", folder=str(folder), reason=error.strerror or str(error))
    demo = name == DEMO_NAME
    return Model(
        name, "GLM Studio demo" if demo else name, folder, "demo" if demo else "chatglm3", _size(folder), problem
    )


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
