"""What a run can be looked at with elsewhere, as downloads: `/runs/<name>/metrics.csv`, `tensorboard.zip`, `train.log`,
`report.md` and `report.html`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from glmstudio.errors import StudioError
from glmstudio.files import opened
from glmstudio.knowledge.score_report import rows
from glmstudio.knowledge.scoring import last_score
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run, find_run
from glmstudio.runs.metrics_export import export_metrics, metrics_csv
from glmstudio.runs.run_report import report_text
from glmstudio.ui.framework.zip_stream import zip_stream
from glmstudio.words import say

_BLOCK = 1 << 20


def run_file(request: Request) -> Response:
    """One file of a run; 404 where there is no such run or file, and in words where it cannot be made."""
    lang = "zh" if request.query_params.get("lang") == "zh" else "en"
    make = _FILES.get(request.path_params["file"])
    try:
        run = find_run(request.path_params["name"])
    except StudioError:
        make = None
    if make is None:
        return Response(status_code=404)
    try:
        made = make(run, lang)
    except (StudioError, OSError) as error:
        text = error.what(lang) if isinstance(error, StudioError) else say(lang, "ui.broken.what")
        return Response(text, status_code=404, media_type="text/plain; charset=utf-8")
    return attached(made, f"{run.name}-{request.path_params['file']}")


def attached(made: Response, name: str) -> Response:
    """The response as a file that the browser keeps; never shown as a page of the studio."""
    made.headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(name)}"
    made.headers["cache-control"] = "no-store"
    made.headers["x-content-type-options"] = "nosniff"
    return made


def _metrics(run: Run, _lang: str) -> Response:
    return Response(metrics_csv(run), media_type="text/csv; charset=utf-8")


def _events(run: Run, _lang: str) -> Response:
    with tempfile.TemporaryDirectory(prefix="glmstudio-events-") as folder:
        target = export_metrics(run, "tensorboard", Path(folder) / "events")
        return Response(b"".join(zip_stream(target, run.name)), media_type="application/zip")


def _log(run: Run, _lang: str) -> Response:
    return StreamingResponse(_blocks(run.path / RunFiles.LOG), media_type="text/plain; charset=utf-8")


def _blocks(file: Path) -> Iterator[bytes]:
    with opened(file) as stream:
        while block := stream.read(_BLOCK):
            yield block


def _report(form: str) -> Callable[[Run, str], Response]:
    kind = "text/html" if form == "html" else "text/markdown"

    def make(run: Run, lang: str) -> Response:
        score = last_score(run)
        scores = list(rows(lang, score)) if score else ()
        return Response(report_text(run, form, lang, scores), media_type=f"{kind}; charset=utf-8")

    return make


_FILES: dict[str, Callable[[Run, str], Response]] = {
    "metrics.csv": _metrics,
    "tensorboard.zip": _events,
    "train.log": _log,
    "report.md": _report("markdown"),
    "report.html": _report("html"),
}
