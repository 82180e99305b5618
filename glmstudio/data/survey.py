"""The preparing of a data set as a child process, for the page.

`python -m glmstudio.data.survey SOURCE MODEL_FOLDER MIXTURE PIECE`

A job in state/surveys/<key>/ (`jobs.background_job`); the result is the store itself. The key is that of the store: a
source that changed is another survey.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio import untrusted
from glmstudio.data import prepared
from glmstudio.data.mixture import PLAIN, Mixture
from glmstudio.data.readers.cutting import PIECE
from glmstudio.data.readers.sources import source_files
from glmstudio.data.store import Store, prepare, store_at, store_key
from glmstudio.errors import StudioError
from glmstudio.jobs.background_job import BackgroundJob, carry_out
from glmstudio.paths import paths

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
    job = _job(key)
    _forget_old(job.folder)
    job.start(__name__, str(source.absolute()), str(model_folder.absolute()), mixture.to_json(), str(piece))


def look(source: Path, model_folder: Path, mixture: Mixture = PLAIN, piece: int = PIECE) -> SurveyProgress:
    """How far it is. Raises StudioError where the source or the tokenizer cannot be read."""
    key = _key(source, model_folder, mixture, piece)
    if (store := _ready(source, model_folder, key)) is not None:
        return SurveyProgress(1.0, store.records, store)
    job = _job(key)
    working, status = job.look()
    share, records = untrusted.number(status.get("share")), int(untrusted.number(status.get("records")))
    if problem := untrusted.problem(status.get("problem")):
        return SurveyProgress(share, records, problem=problem)
    if working:
        return SurveyProgress(share, records, running=True)
    if (store := _ready(source, model_folder, key)) is not None:  # it may have ended between the two looks
        return SurveyProgress(1.0, store.records, store)
    if job.asked:
        return SurveyProgress(share, records, problem=StudioError("data.survey_died", source=str(source)))
    return SurveyProgress()


def main(source: Path, model_folder: Path, mixture: Mixture = PLAIN, piece: int = PIECE) -> int:
    """Prepare, and write down how far it is. Returns 0 where the store is ready."""
    job = _job(_key(source, model_folder, mixture, piece))
    status: dict[str, Any] = {"share": 0.0, "records": 0}

    def tell(share: float, records: int) -> None:
        status.update(share=share, records=records)
        job.tell(status)

    return carry_out(
        lambda: prepare(source, model_folder, mixture=mixture, piece=piece, tell=tell),
        lambda problem: job.tell(status | {"problem": problem.to_json()}),
        lambda reason: StudioError("data.survey_broken", source=str(source), reason=reason),
    )


def _ready(source: Path, model_folder: Path, key: str) -> Store | None:
    """The store, opened once for all the looks at it."""
    store = _open.get(key)
    if store is None or store.source != source or not (prepared.place() / key).is_dir():
        if len(_open) > 1:  # those to learn from, and those for the validation
            _open.clear()
        store = store_at(source, model_folder, key)
        if store is not None:
            _open[key] = store
    return store


def _forget_old(place: Path) -> None:
    """Surveys of long ago go away; their stores are the cache's business."""
    for other in place.parent.glob("*"):
        with contextlib.suppress(OSError):
            if other != place and time.time() - (other / "job.json").stat().st_mtime > _WEEK_S:
                shutil.rmtree(other, ignore_errors=True)


def _key(source: Path, model_folder: Path, mixture: Mixture, piece: int) -> str:
    return store_key(source_files(source), model_folder, mixture, piece)


def _job(key: str) -> BackgroundJob:
    return BackgroundJob(paths().state / "surveys" / key[:20])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), Mixture.from_json(sys.argv[3]), int(sys.argv[4])))
