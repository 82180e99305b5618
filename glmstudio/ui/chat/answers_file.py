"""Questions and answers as a download: `/answers/<job>.csv`, `.xlsx` or `.jsonl`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from glmstudio.knowledge.answer_table import table
from glmstudio.knowledge.answering import jobs, rows_of

_KINDS = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "jsonl": "application/jsonl",
}


def answers_file(request: Request) -> Response:
    """The table of a job as far as it is; 404 where there is none."""
    name, _, kind = request.path_params["file"].rpartition(".")
    place = next((each for each in jobs() if each.name == name), None)
    if place is None or kind not in _KINDS:
        return Response(status_code=404)
    headers = {"content-disposition": f'attachment; filename="answers.{kind}"', "cache-control": "no-store"}
    return Response(table(kind, rows_of(place)), media_type=_KINDS[kind], headers=headers)
