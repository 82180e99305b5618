"""The preparing of a data set as a child process, for the page.

`python -m glmstudio.data.survey SOURCE MODEL_FOLDER MIXTURE PIECE`

    state/surveys/<key>/
        job.json       who does it
        status.json    how far it is, and what stopped it; the result is the store itself
        log.txt        what the child printed

The key is that of the store: a source that changed is another survey.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.data import prepared
from glmstudio.data.mixture import PLAIN, Mixture
from glmstudio.data.readers.cutting import PIECE
from glmstudio.data.readers.sources import source_files
from glmstudio.data.store import Store, prepare, store_at, store_key
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.paths import paths
from glmstudio.system.portable.locks import alone
from glmstudio.system.process import Identity, alive, identify, spawn

_BIRTH_S = 10.0
_WEEK_S = 7 * 24 * 3600.0
_open: dict[str, Store] = {}


@dataclass(frozen=True)
class SurveyProgress:
    """How far a survey is: the share of bytes read, the records so far, and in the end the store or a problem.

    `running` is false where nobody is at it: before the start, and at the end.
    """

    share: float = 0.0
    records: int = 0
    store: Store | None = None
    problem: StudioError | None = None
    running: bool = False


def start(source: Path, model_folder: Path, mixture: Mixture = PLAIN, piece: int = PIECE) -> None:
    """Begin to prepare a source in the background, unless it is ready or somebody is at it. Raises StudioError."""
    key = _key(source, model_folder, mixture, piece)
    if store_at(source, model_folder, key) is not None:
        return
    place = _place(key)
    place.mkdir(parents=True, exist_ok=True)
    with alone(place):
        if _at_work(place):
            return
        _forget_old(place)
        run_id = os.urandom(16).hex()
        about: dict[str, Any] = {"run_id": run_id, "created": time.time()}
        write_json(place / "status.json", {})
        write_json(place / "job.json", about)
        command = [sys.executable, "-m", "glmstudio.data.survey", str(source.absolute()), str(model_folder.absolute())]
        command += [mixture.to_json(), str(piece)]
        with (place / "log.txt").open("wb") as log:
            child = spawn(command, log, run_id)
        identity = identify(child.pid)
        write_json(place / "job.json", about | {"identity": identity.to_json() if identity else None})


def look(source: Path, model_folder: Path, mixture: Mixture = PLAIN, piece: int = PIECE) -> SurveyProgress:
    """How far it is. Raises StudioError where the source or the tokenizer cannot be read."""
    key = _key(source, model_folder, mixture, piece)
    if (store := _ready(source, model_folder, key)) is not None:
        return SurveyProgress(1.0, store.records, store)
    place = _place(key)
    working = _at_work(place)
    status = read_table(place / "status.json")
    share, records = float(status.get("share", 0.0)), int(status.get("records", 0))
    if isinstance(status.get("problem"), dict):
        return SurveyProgress(share, records, problem=StudioError.from_json(status["problem"]))
    if working:
        return SurveyProgress(share, records, running=True)
    if (store := _ready(source, model_folder, key)) is not None:  # it may have ended between the two looks
        return SurveyProgress(1.0, store.records, store)
    if (place / "job.json").exists():
        return SurveyProgress(share, records, problem=StudioError("data.survey_died", source=str(source)))
    return SurveyProgress()


def main(source: Path, model_folder: Path, mixture: Mixture = PLAIN, piece: int = PIECE) -> int:
    """Prepare, and write down how far it is. Returns 0 where the store is ready."""
    place = _place(_key(source, model_folder, mixture, piece))
    status: dict[str, Any] = {"share": 0.0, "records": 0}

    def tell(share: float, records: int) -> None:
        status.update(share=share, records=records)
        write_json(place / "status.json", status)

    def failed(problem: StudioError) -> int:
        write_json(place / "status.json", status | {"problem": problem.to_json()})
        return 1

    try:
        prepare(source, model_folder, mixture=mixture, piece=piece, tell=tell)
    except StudioError as problem:
        return failed(problem)
    except OSError as error:
        return failed(StudioError("cli.system", file=error.filename or "", reason=error.strerror or str(error)))
    except Exception as error:
        failed(StudioError("data.survey_broken", source=str(source), reason=f"{type(error).__name__}: {error}"))
        raise  # for the log
    return 0


def _ready(source: Path, model_folder: Path, key: str) -> Store | None:
    """The store, opened once for all the looks at it."""
    store = _open.get(key)
    if store is None or store.source != source or not (prepared.place() / key).is_dir():
        _open.clear()
        store = store_at(source, model_folder, key)
        if store is not None:
            _open[key] = store
    return store


def _at_work(place: Path) -> bool:
    about = read_table(place / "job.json")
    if not about:
        return False
    identity = Identity.from_json(about.get("identity"))
    if identity is None:  # it is being started right now, unless whoever started it was killed in between
        return time.time() - float(about.get("created", 0.0)) < _BIRTH_S
    return alive(identity)


def _forget_old(place: Path) -> None:
    """Surveys of long ago go away; their stores are the cache's business."""
    for other in place.parent.iterdir():
        with contextlib.suppress(OSError):
            if other != place and time.time() - (other / "job.json").stat().st_mtime > _WEEK_S:
                shutil.rmtree(other, ignore_errors=True)


def _key(source: Path, model_folder: Path, mixture: Mixture, piece: int) -> str:
    return store_key(source_files(source), model_folder, mixture, piece)


def _place(key: str) -> Path:
    return paths().state / "surveys" / key[:20]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), Mixture.from_json(sys.argv[3]), int(sys.argv[4])))
