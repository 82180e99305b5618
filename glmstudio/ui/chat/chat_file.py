"""A conversation as a download: `/chats/<id>.json` to import again, `/chats/<id>.md` to read."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from glmstudio.chat import history
from glmstudio.errors import StudioError

_KINDS = {"json": "application/json", "md": "text/markdown"}


def chat_file(request: Request) -> Response:
    """The whole conversation, or its shown branch as text; 404 where there is none."""
    name, _, kind = request.path_params["file"].rpartition(".")
    try:
        conversation = history.read(name)
    except StudioError:
        return Response(status_code=404)
    if kind not in _KINDS:
        return Response(status_code=404)
    text = (
        history.markdown(conversation)
        if kind == "md"
        else json.dumps(conversation.to_json(), ensure_ascii=False, indent=2)
    )
    headers = {"content-disposition": f'attachment; filename="{name}.{kind}"', "cache-control": "no-store"}
    return Response(text, media_type=_KINDS[kind], headers=headers)
