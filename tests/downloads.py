"""A download as the studio makes it, of a small model, from a hub of the tests'. A test file asks for the fixtures
by `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from glmstudio.models import catalogue, jobs
from glmstudio.models.hub.download import Options
from glmstudio.models.job_process import options_of
from tests.fakes.hub import Hub
from tests.fakes.published import make_model
from tests.models import QUICK, REPO, weights
from tests.waiting import until

NAME = "chatglm3-6b"
SHARD_BYTES = 1 << 20
PIECE = 64 << 10


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return make_model(tmp_path / "hub", REPO, shard_bytes=SHARD_BYTES)


@pytest.fixture
def hub(tmp_path: Path, published: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub, and a catalogue whose ChatGLM3-6B is as small as the hub's, with its licence accepted."""
    real = catalogue._shipped
    monkeypatch.setattr(catalogue, "_shipped", lambda name, table: replace(real(name, table), size_bytes=3 << 20))
    catalogue.accept_licence(catalogue.entry(NAME))
    with Hub(tmp_path / "hub") as running:
        for name in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT", "GLMSTUDIO_MIRROR"):
            monkeypatch.setenv(name, running.url)
        yield running
        job = jobs.read(home / "models" / NAME)
        if job and job.live:
            jobs.pause(job.folder)


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "models" / NAME


def begin(folder: Path, connections: int = 4) -> None:
    """A download as `start_download` begins it, but in small pieces and impatient."""
    options = Options(sources=("modelscope",), connections=connections, piece=PIECE, patience=QUICK)
    jobs.start("download", NAME, folder, options_of(catalogue.entry(NAME), options))


def wait(folder: Path) -> jobs.ModelJob:
    until(lambda: (job := jobs.read(folder)) is None or not job.live, why=lambda: jobs.read(folder))
    job = jobs.read(folder)
    assert job is not None
    return job


def wait_for_bytes(hub: Hub, wanted: int) -> None:
    until(lambda: hub.sent() >= wanted)


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def total(published: Path) -> int:
    return sum(len(data) for data in weights(published).values())
