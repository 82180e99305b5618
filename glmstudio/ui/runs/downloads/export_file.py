"""An export as a download, `/exports/<folder>.zip`: who uses the studio from another machine has no folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from glmstudio.models.exports.new_folder import exports_folder
from glmstudio.runs.export import FORMS
from glmstudio.ui.framework.zip_stream import folder_size, zip_stream
from glmstudio.ui.runs.downloads.run_file import attached

MOST = 4 << 30  # bytes: more than that is better copied by a program that can go on where it was


@dataclass(frozen=True)
class ExportFolder:
    """An export on the disk; `size` in bytes."""

    path: Path
    form: str
    size: int

    @property
    def too_large(self) -> bool:
        """Whether it should rather be copied with rsync."""
        return self.size > MOST


def exports_of(name: str) -> tuple[ExportFolder, ...]:
    """The exports of the run of that name, as the page names them, newest first."""
    try:
        stamp = exports_folder().stat().st_mtime_ns  # an export comes in whole, by being renamed
    except OSError:
        return ()
    return _exports_of(name, str(exports_folder()), stamp)


@lru_cache(maxsize=64)
def _exports_of(name: str, _folder: str, _stamp: int) -> tuple[ExportFolder, ...]:
    named = re.compile(rf"{re.escape(name)}-({'|'.join(FORMS)})(-step\d+)?(-\d+)?")
    matches = ((path, named.fullmatch(path.name)) for path in _folders())
    found = [
        (path.stat().st_mtime, ExportFolder(path, match[1], folder_size(path))) for path, match in matches if match
    ]
    return tuple(each for _, each in sorted(found, key=lambda pair: pair[0], reverse=True))


def export_file(request: Request) -> Response:
    """The folder of that name as a ZIP file; 404 where there is none, or it is too large for one."""
    name = str(request.path_params["file"]).removesuffix(".zip")
    folder = next((each for each in _folders() if each.name == name), None)
    if folder is None or folder_size(folder) > MOST:
        return Response(status_code=404)
    return attached(StreamingResponse(zip_stream(folder, name), media_type="application/zip"), f"{name}.zip")


def _folders() -> list[Path]:
    try:
        return [each for each in exports_folder().iterdir() if each.is_dir() and not each.is_symlink()]
    except OSError:
        return []
