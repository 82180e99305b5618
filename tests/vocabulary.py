"""ChatGLM3's own vocabulary, which the project may not carry: where a test finds it, and what is said where it is absent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from glmstudio.paths import ROOT, paths

GOLDEN = Path(__file__).parent / "golden"
BESIDE = ROOT.parent / "shared" / "reference"
_SHA256 = "e7dc4c393423b76e4373e5157ddc34803a0189ba96b21ddbb40269d31468a6f2"


def _places() -> Iterator[Path]:
    """What `GLMSTUDIO_TOKENIZER` names, if it does; else the models of this studio, and the reference data beside the clone."""
    named = os.environ.get("GLMSTUDIO_TOKENIZER")
    if named:
        yield Path(named)
        return
    yield from sorted(paths().models.glob("chatglm3-6b*"))
    yield BESIDE / "tokenizer"


def _found() -> Path | None:
    """The folder with the vocabulary as it was published; any other `tokenizer.model` has other ids."""
    for place in _places():
        file = place / "tokenizer.model" if place.is_dir() else place
        if (
            file.name == "tokenizer.model"
            and file.is_file()
            and hashlib.sha256(file.read_bytes()).hexdigest() == _SHA256
        ):
            return file.parent
    return None


_FOLDER = _found()
VOCABULARY = _FOLDER or GOLDEN / "no vocabulary"
needs_vocabulary = pytest.mark.skipif(
    _FOLDER is None,
    reason="ChatGLM3's vocabulary is not here: download a model in the studio, or set GLMSTUDIO_TOKENIZER to its tokenizer.model",
)
