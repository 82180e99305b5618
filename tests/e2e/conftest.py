"""One browser a module, and a studio for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glmstudio.chat.model_server import ModelServer
from glmstudio.rundir.run import Run
from glmstudio.runs.stop import stop_run
from tests.e2e.browser import browser
from tests.e2e.studio import Studio, studio


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture
def running(home: Path) -> Iterator[Studio]:
    with studio(home) as started:
        yield started
    for folder in (home / "runs").glob("*"):
        list(stop_run(Run(folder.name, folder), now=True))
    ModelServer.stop()
