"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from hypothesis import settings

from glmstudio.rundir.run import Run, list_runs, wait_for_end
from glmstudio.system.process import Identity, identify, send
from tests.quick import ANY_PYTHON, QUICK
from tests.run_helpers import STEPS, losses
from tests.waiting import until

pytest.register_assert_rewrite("tests.downloads", "tests.drawn_page")

# No test asks a hub outside: their addresses lead to a port of this machine where nobody listens, for children, too.
for _name in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT", "GLMSTUDIO_MIRROR"):
    os.environ[_name] = "http://127.0.0.1:9"

# Two processes test beside each other, and small models gain nothing from more threads, which wait for each other busily.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hundreds of children start: without bytecode each would compile the studio anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# How long an example takes is no result: the machine may be busy.
settings.register_profile("studio", settings(), deadline=None)
settings.load_profile("studio")


# Files whose subject is all processes, ports or names of this machine.
MACHINE = ("test_doctor", "test_process.py", "test_whose_run.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--quick`: about half of the tests in a quarter of the time."""
    parser.addoption("--quick", action="store_true", help="run only what needs neither PyTorch nor a browser")
    parser.addoption("--quickest", action="store_true", help="of --quick, only what another Python may change")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Without a file, a debugger or a word of its own on that, a session tests in three processes beside each other: each waits
    for a third of its time (a page, a server, a run), so that two cores are busy."""
    option = config.option
    alone = option.usepdb or option.collectonly or option.capture == "no" or "PYTEST_XDIST_WORKER" in os.environ
    everything = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    if everything and not alone and getattr(option, "numprocesses", 0) is None:
        option.numprocesses, option.loadscopereorder = 3, False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays in one process, which has its fixtures; so do all that look at the whole machine."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "machine" if file.rpartition("/")[2].startswith(MACHINE) else file

    return ByFile(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """`--quickest` is a part of `--quick`."""
    config.option.quick = config.option.quick or config.option.quickest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--quick`, files that import PyTorch are not even read: it may be absent."""
    wanted = QUICK - ANY_PYTHON if config.getoption("quickest") else QUICK
    skipped = (
        config.getoption("quick") and collection_path.name.startswith("test_") and collection_path.name not in wanted
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
    if caches := sys.modules.get("glmstudio.ui.framework.ttl_cache"):
        caches.clear_caches()  # what was seen a moment ago was another test's home
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
    until(lambda: not _killed(mark))


def _killed(mark: str) -> list[psutil.Process]:
    """Those with this mark that were still there, another user's among them: a busy machine takes a while to end them."""
    left = []
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if each.environ().get("GLMSTUDIO_TEST_MARK") == mark:
                each.kill()
                left.append(each)
    return left


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
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test session have in common."""
    mine = tmp_path_factory.getbasetemp()
    return mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine


@pytest.fixture(scope="session")
def reference(shared_folder: Path) -> Callable[..., list[tuple[int, float]]]:
    """The losses of a run of so many steps that was never interrupted: one for all, which goes on beside the first test."""
    folder = shared_folder / "reference"
    folder.mkdir(exist_ok=True)

    def start(steps: int) -> Run:
        """By a process of its own, whose home nobody changes."""
        place = folder / f"of {steps}.txt"
        with FileLock(f"{place}.lock"):
            if not place.exists():
                code = (
                    "import pathlib, tests.run_helpers as run_helpers\n"
                    f"print(run_helpers.begin(pathlib.Path({str(folder)!r}), 'of {steps}', steps={steps}, wait=True).path)"
                )
                told = subprocess.run(
                    [sys.executable, "-c", code],
                    cwd=Path(__file__).parents[1],
                    env={**os.environ, "GLMSTUDIO_HOME": str(folder / "home")},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                place.write_text(told.stdout.strip(), encoding="utf-8")
        return Run(f"of {steps}", Path(place.read_text(encoding="utf-8")))

    def look(steps: int = STEPS) -> list[tuple[int, float]]:
        run = start(steps)
        assert wait_for_end(run, seconds=240).state == "finished", run.log()[0][-3000:]
        return losses(run)

    start(STEPS)
    return look
