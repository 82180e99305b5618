"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty studio home of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("GLMSTUDIO_HOME", str(folder))
    return folder
