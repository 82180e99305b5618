"""The facts score of a run as a download: `/scores/<run>.json`, `.csv` for a spreadsheet, `.md` to read."""

from __future__ import annotations

import json
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from glmstudio.errors import StudioError
from glmstudio.knowledge.score_report import as_csv, as_markdown
from glmstudio.knowledge.scoring import last_score
from glmstudio.rundir.run import find_run

_KINDS = {"json": "application/json", "csv": "text/csv; charset=utf-8", "md": "text/markdown"}


def score_file(request: Request) -> Response:
    """The newest score of the run; 404 where there is none."""
    name, _, kind = request.path_params["file"].rpartition(".")
    lang = "zh" if request.query_params.get("lang") == "zh" else "en"
    try:
        score = last_score(find_run(name))
    except StudioError:
        score = None
    if score is None or kind not in _KINDS:
        return Response(status_code=404)
    if kind == "csv":
        text = "\ufeff" + as_csv(score)  # the byte order mark tells spreadsheets that it is UTF-8
    elif kind == "md":
        text = as_markdown(lang, score, name)
    else:
        text = json.dumps(score.to_json(lang), ensure_ascii=False, indent=2)
    attached = f"attachment; filename*=UTF-8''{quote(name)}.{kind}"
    return Response(
        text, media_type=_KINDS[kind], headers={"content-disposition": attached, "cache-control": "no-store"}
    )
