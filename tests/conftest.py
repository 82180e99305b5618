"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# No test asks a hub outside: their addresses lead to a port of this machine where nobody listens, for children, too.
for _name in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT", "GLMSTUDIO_MIRROR"):
    os.environ[_name] = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty studio home of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("GLMSTUDIO_HOME", str(folder))
    return folder
