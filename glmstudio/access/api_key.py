"""The key of a model server: only who has it is answered. It goes through the environment or a file, never through a
command line, which every user of the machine can read."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from glmstudio.errors import StudioError

VARIABLE = "GLMSTUDIO_API_KEY"
_KEY = re.compile(r"[!-~]{16,512}")  # what fits into a header


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(24)


def bearer(key: str) -> dict[str, str]:
    """The header of a request."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def given_key(file: Path | None) -> str:
    """The key in `file`, else in the environment; empty where there is none. Raises StudioError where it is no key."""
    try:
        key = os.environ.get(VARIABLE, "") if file is None else file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise StudioError("chat.serve.key_unread", file=str(file)) from error
    if (key or file is not None) and not _KEY.fullmatch(key):
        raise StudioError("chat.serve.key_weak", variable=VARIABLE)
    return key
