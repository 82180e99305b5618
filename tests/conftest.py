"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from glmstudio.rundir.run import Run, list_runs, wait_for_end
from glmstudio.system.process import Identity, environment, identify, send
from tests.quick import QUICK
from tests.run_helpers import STEPS, losses

# No test asks a hub outside: their addresses lead to a port of this machine where nobody listens, for children, too.
for _name in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT", "GLMSTUDIO_MIRROR"):
    os.environ[_name] = "http://127.0.0.1:9"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--quick`: about half of the tests in a quarter of the time."""
    parser.addoption("--quick", action="store_true", help="run only what needs neither PyTorch nor a browser")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--quick`, files that import PyTorch are not even read: it may be absent."""
    skipped = (
        config.getoption("quick") and collection_path.name.startswith("test_") and collection_path.name not in QUICK
    )
    return True if skipped else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--quick`, leave out the tests of the other files that need PyTorch."""
    if config.getoption("quick"):
        left_out = [item for item in items if item.get_closest_marker("torch")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty studio home of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("GLMSTUDIO_HOME", str(folder))
    return folder


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes; whatever they started with their mark is ended after the test, and nothing else."""
    mark = uuid.uuid4().hex
    children: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "GLMSTUDIO_TEST_MARK": mark, **variables},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
    for process in psutil.process_iter():
        if environment(process.pid).get("GLMSTUDIO_TEST_MARK") == mark:
            left = identify(process.pid)
            if left:
                send(left, signal.SIGKILL)


# Starts the rest of its command line in a session of its own, says its number, and leaves it alone.
_LEAVE = """
import os, subprocess, sys
left = subprocess.Popen([sys.executable, *sys.argv[1:]], start_new_session=True)
print(left.pid, flush=True)
"""


@pytest.fixture
def orphan(spawn: Callable[..., subprocess.Popen[str]]) -> Callable[..., Identity]:
    """Starts a process whose parent is gone; one that prints a line when it is ready is waited for with `ready=True`."""

    def start(*arguments: str, ready: bool = False, **variables: str) -> Identity:
        parent = spawn("-S", "-c", _LEAVE, *arguments, **variables)
        assert parent.stdout is not None
        lines = [parent.stdout.readline() for _ in range(2 if ready else 1)]
        parent.wait()
        left = identify(int(next(line for line in lines if line.strip())))
        assert left is not None
        return left

    return start


@pytest.fixture
def clean(home: Path) -> Iterator[Path]:
    """A home whose runs are all stopped after the test."""
    yield home
    for run in list_runs():
        for each in run.processes():
            send(each, signal.SIGKILL)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[tuple[int, float]]]:
    """The losses of a run of so many steps that was never interrupted; one goes on beside the first test."""
    folder = tmp_path_factory.mktemp("reference")
    environment = {**os.environ, "GLMSTUDIO_HOME": str(folder / "home")}
    begun: dict[int, Run] = {}

    def start(steps: int) -> Run:
        code = (
            "import pathlib, tests.run_helpers as run_helpers\n"
            f"print(run_helpers.begin(pathlib.Path({str(folder)!r}), 'of {steps}', steps={steps}, wait=True).path)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[1],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        return begun.setdefault(steps, Run(f"of {steps}", Path(done.stdout.strip())))

    def look(steps: int = STEPS) -> list[tuple[int, float]]:
        run = begun.get(steps) or start(steps)
        assert wait_for_end(run, seconds=240).state == "finished", run.log()[0][-3000:]
        return losses(run)

    start(STEPS)
    return look
