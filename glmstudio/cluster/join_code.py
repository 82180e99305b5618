"""The join code of a run of several machines: whoever has it may take part."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import read_text

VARIABLE = "GLMSTUDIO_JOIN_CODE"  # what a script that was written beforehand has chosen
_FILE = "join.code"
_CODE = re.compile(r"\w[\w-]{15,127}", re.ASCII)  # no hyphen in front: it stands in commands


def new_code() -> str:
    """A code that nobody can guess."""
    return secrets.token_hex(24)


def write_code(folder: Path) -> None:
    """Give the run in `folder` its code, in a file that only its owner can read. Raises StudioError for a weak one."""
    code = os.environ.get(VARIABLE) or new_code()
    if not _CODE.fullmatch(code):
        raise StudioError("cluster.weak_code", variable=VARIABLE)
    handle = os.open(folder / _FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(code + "\n")


def read_code(folder: Path) -> str:
    """The code of the run in `folder`. Raises StudioError where it has none."""
    try:
        return read_text(folder / _FILE).strip()
    except (OSError, ValueError) as error:
        raise StudioError("cluster.no_code", folder=str(folder)) from error
