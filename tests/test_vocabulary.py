"""Where ChatGLM3's vocabulary is looked for; the demo model's stands for it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from glmstudio.paths import DEMO
from tests import vocabulary

FILE = DEMO / "model" / "tokenizer.model"


@pytest.fixture(autouse=True)
def _nothing_beside(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLMSTUDIO_TOKENIZER", raising=False)
    monkeypatch.setattr(vocabulary, "BESIDE", tmp_path / "beside")
    monkeypatch.setattr(vocabulary, "_SHA256", hashlib.sha256(FILE.read_bytes()).hexdigest())


def copy(folder: Path, content: bytes = b"") -> Path:
    folder.mkdir(parents=True)
    shutil.copy(FILE, folder)
    if content:
        (folder / "tokenizer.model").write_bytes(content)
    return folder


def test_it_is_found_where_it_is_named_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, named = copy(tmp_path / "beside" / "tokenizer"), copy(tmp_path / "named")
    assert vocabulary._found() == beside
    for name in (named, named / "tokenizer.model"):
        monkeypatch.setenv("GLMSTUDIO_TOKENIZER", str(name))
        assert vocabulary._found() == named
    monkeypatch.setenv("GLMSTUDIO_TOKENIZER", str(tmp_path / "absent"))
    assert vocabulary._found() is None


def test_a_model_that_was_downloaded_has_it(home: Path) -> None:
    copy(home / "models" / "chatglm3-6b", b"other ids")
    assert vocabulary._found() is None
    model = copy(home / "models" / "chatglm3-6b-32k")
    assert vocabulary._found() == model
