"""What is wrong with an adapter's file, in words for an adapter: it is at no hub, so a repair cannot bring it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from glmstudio.errors import StudioError

_OF_A_FILE = ("models.missing_file", "models.truncated", "models.pointer", "models.web_page")


@contextlib.contextmanager
def in_adapter_words() -> Iterator[None]:
    """Problems of a model's file raised within become those of an adapter's."""
    try:
        yield
    except StudioError as problem:
        if problem.key in _OF_A_FILE:
            raise StudioError("adapters.file", problem=problem) from problem
        raise
