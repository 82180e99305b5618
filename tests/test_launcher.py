"""The set-up: which PyTorch, what is shown, and real environments filled from wheels made here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import launcher
from glmstudio.setup import install, packages, state, steps, torch_build
from glmstudio.setup.messages import _TEXT, Stop, say
from tests.fakes.nvml import FakeDriver
from tests.waiting import until
from tests.wheels import write_wheel

ROOT = Path(launcher.__file__).parent
V100, T4, A100, H100, RTX5090, PASCAL = (7, 0), (7, 5), (8, 0), (9, 0), (12, 0), (6, 1)


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


# --- Which PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "driver", "build"),
    [
        (V100, (515, 105, 1), "2.7.1+cu118"),
        (A100, (515, 105, 1), "2.7.1+cu118"),
        (A100, (450, 80, 2), "2.7.1+cu118"),
        (V100, (525, 60, 13), "2.13.0+cu126"),
        (V100, (580, 65, 6), "2.13.0+cu126"),
        (PASCAL, (580, 65, 6), "2.13.0+cu126"),
        (A100, (535, 54, 3), "2.13.0+cu126"),
        (T4, (570, 26), "2.13.0+cu126"),
        (RTX5090, (570, 26), "2.11.0+cu128"),
        (RTX5090, (580, 65, 6), "2.13.0"),
        (H100, (580, 65, 6), "2.13.0"),
    ],
)
def test_the_build_fits_driver_and_card(
    capability: tuple[int, int], driver: tuple[int, ...], build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_build, "nvidia", lambda: (driver, capability))
    assert torch_build.choose("")[0] == build


def test_without_a_driver_the_default_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_build, "nvidia", lambda: None)
    assert torch_build.choose("auto") == ("2.13.0", "no NVIDIA driver found")
    assert torch_build.requirement("2.13.0") == ["torch==2.13.0"]


def test_a_driver_that_is_too_old_is_an_error_with_two_ways_out() -> None:
    with pytest.raises(Stop) as stop:
        torch_build.pick(V100, (440, 33, 1))
    assert str(stop.value) == (
        "The NVIDIA driver 440.33.1 is too old for every PyTorch that GLM Studio can use; 450.80.02 or later is needed. "
        "Update the driver, or use the CPU: python launcher.py --torch cpu"
    )


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ("2.7.1+cu118", ["torch==2.7.1+cu118", "--index-url", "https://download.pytorch.org/whl/cu118"]),
        ("cu126", ["torch==2.13.0+cu126", "--index-url", "https://download.pytorch.org/whl/cu126"]),
        ("cpu", ["torch==2.13.0+cpu", "--index-url", "https://download.pytorch.org/whl/cpu"]),
        ("cu132", ["torch", "--index-url", "https://download.pytorch.org/whl/cu132"]),
        ("2.9.1", ["torch==2.9.1"]),
    ],
)
def test_a_build_asked_for_is_taken(asked: str, arguments: list[str]) -> None:
    build, reason = torch_build.choose(asked)
    assert torch_build.requirement(build) == arguments
    assert reason == "as asked"


def test_a_mirror_may_stand_in_for_the_index_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMSTUDIO_TORCH_INDEX", "https://mirror.example/wheels/")
    assert torch_build.requirement("2.13.0+cu126")[-1] == "https://mirror.example/wheels/cu126"


@pytest.mark.parametrize("argv", [["--torch", "cu126", "doctor"], ["--torch=cu126", "doctor"]])
def test_the_build_is_split_off_the_arguments(argv: list[str]) -> None:
    assert launcher.take_build(argv) == ("cu126", ["doctor"])


@pytest.mark.parametrize("argv", [["--torch"], ["--torch", "latest"], ["--torch=; rm -rf /"], ["--torch=../x"]])
def test_what_names_no_build_is_refused(argv: list[str]) -> None:
    with pytest.raises(Stop, match="does not name a PyTorch build"):
        launcher.take_build(argv)


def test_only_a_leading_build_is_ours() -> None:
    assert launcher.take_build(["test", "--torch"]) == (None, ["test", "--torch"])


@pytest.fixture
def fake_driver(tmp_path: Path) -> FakeDriver:
    return FakeDriver(tmp_path)


ASK = "from glmstudio.setup.torch_build import nvidia; print(nvidia())"


def test_the_drivers_library_is_asked(fake_driver: FakeDriver) -> None:
    gpus = "driver=515.105.01 cuda=11070\nA100|40960|10|0|30|0|0|\nTesla V100|32768|10|0|30|0|0|\n"
    answer = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        env={**os.environ, **fake_driver.environment(gpus)},
        capture_output=True,
        text=True,
    )
    assert answer.stdout == "((515, 105, 1), (7, 0))\n"


def test_a_driver_without_cards_counts_as_none(fake_driver: FakeDriver) -> None:
    environment = {**os.environ, **fake_driver.environment("driver=580.65.06 cuda=13000\n")}
    answer = subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert answer.stdout == "None\n"


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("535.54.03, 8.6\\n535.54.03, 7.0\\n", ((535, 54, 3), (7, 0))),
        ("", None),
        ("No devices were found\\n", None),
    ],
)
def test_nvidia_smi_is_asked_where_the_library_is_not_found(
    output: str, found: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{output}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def absent() -> None:
        raise OSError

    monkeypatch.setattr(torch_build, "_ask_library", absent)
    assert torch_build.nvidia() == found


# --- What is said ----------------------------------------------------------------------------------------------------


def test_every_sentence_has_the_same_values_in_both_languages() -> None:
    from string import Formatter

    for key, pair in _TEXT.items():
        english, chinese = ({name for _, name, _, _ in Formatter().parse(text) if name} for text in pair)
        assert english == chinese, key


def test_the_language_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert say("done") == "完成"
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert say("done") == "done"
    monkeypatch.delenv("LC_ALL")
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LANG", "zh_TW")
    assert say("done") == "完成"


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 14, 0), (3, 8, 10)])
def test_a_python_that_does_not_fit(version: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/x" if name == "python3.11" else None)
    expected = f"GLM Studio needs Python 3.10, 3.11, 3.12 or 3.13, and this is Python {version[0]}.{version[1]}."
    with pytest.raises(Stop) as stop:
        launcher.check_python()
    assert str(stop.value) == f"{expected} A suitable one is installed: python3.11 launcher.py"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Stop) as stop:
        launcher.check_python()
    assert str(stop.value).startswith(f"{expected} Install one of them")


def test_the_part_that_an_old_python_reads_is_understood_by_it() -> None:
    """An unfit Python must get as far as the sentence that says so, not stop at a syntax error."""
    import ast

    for file in (ROOT / "launcher.py", ROOT / "glmstudio/setup/state.py", ROOT / "glmstudio/setup/messages.py"):
        ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_a_missing_venv_module_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "PYTHON", tmp_path / "bin" / "python")
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(Stop) as stop:
        install._create_environment("1/3")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert str(stop.value) == (
        "This Python cannot create virtual environments: its “ensurepip” module is missing. On Debian or Ubuntu, run "
        f"“sudo apt install python{version}-venv” and start again; elsewhere, use the Python from python.org."
    )


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "disk_full"),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(\"[Errno -3] Temporary "
            "failure in name resolution\")': /simple/torch/\n"
            "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)\n"
            "ERROR: No matching distribution found for torch==2.13.0\n",
            "no_network",
        ),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'\n", "not_writable"),
        (
            "ERROR: Could not find a version that satisfies the requirement torch==9.9 (from versions: 2.6.0, 2.7.0)\n"
            "ERROR: No matching distribution found for torch==9.9\n",
            "no_build",
        ),
        ("Collecting a\nERROR: Cannot install a and b because these are in conflict.\n", "pip_failed"),
    ],
)
def test_a_failing_pip_is_explained(output: str, reason: str) -> None:
    beginnings = {
        "disk_full": f"The disk with {state.VENV} is full.",
        "no_network": "The set-up cannot reach the package index (Temporary failure in name resolution).",
        "not_writable": f"Cannot write to {state.VENV} (Permission denied: '/x').",
        "no_build": "There is no PyTorch 9.9 for this machine",
        "pip_failed": "The installation failed: Cannot install a and b because these are in conflict.",
    }
    text = packages.explain(output)
    assert text.startswith(beginnings[reason])
    assert text.endswith(f"The full output is in {state.LOG}.")


def test_the_progress_of_pip_is_put_in_words() -> None:
    shown = packages.Progress()
    assert shown.part() == ""
    shown.read("Collecting torch==2.13.0\n")
    shown.read("Collecting sympy>=1.13.3 (from torch==2.13.0)\n")
    shown.read("  Downloading sympy-1.14-py3-none-any.whl.metadata (1 kB)\n")
    assert shown.part() == "resolving, 2 packages found"
    assert not shown.read("Downloading https://files.example/torch-2.13.0-cp311-cp311-linux_x86_64.whl (858.1 MB)\n")
    assert shown.read("Progress 412000000 of 858100000\n")
    assert shown.part() == "downloading torch, package 1 of 2, 412 of 858 MB"
    shown.read("Using cached sympy-1.14-py3-none-any.whl (6.2 MB)\n")
    assert shown.part() == "downloading sympy, package 2 of 2"
    shown.read("Installing collected packages: no-such-a, no-such-b\n")
    assert shown.part() == "unpacking package 1 of 2"


def test_a_line_fits_the_terminal_in_both_scripts() -> None:
    assert steps._fitted("abcdef", 4) == "abcd"
    assert steps._fitted("正在解压", 5) == "正在"
    assert steps.clock(65.9) == "1:05"


# --- Real environments -----------------------------------------------------------------------------------------------


class Clone:
    """A copy of the launcher with small requirements and a folder of wheels instead of an index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        self.wheels.mkdir(parents=True)
        (folder / "glmstudio").mkdir()
        (folder / "tests").mkdir()
        shutil.copy(ROOT / "launcher.py", folder)
        for room in ("setup", "system/portable"):
            shutil.copytree(ROOT / "glmstudio" / room, folder / "glmstudio" / room)
        for package in ("glmstudio", "glmstudio/system"):
            (folder / package / "__init__.py").touch()
        main = "import sys, os\nprint('studio', sys.argv[1:], os.environ['PYTHONPATH'], os.getcwd())\n"
        (folder / "glmstudio" / "__main__.py").write_text(main)
        self.require("small")
        (folder / "tests" / "requirements.txt").write_text("pytest\n")
        write_wheel(self.wheels, "torch", "2.13.0")
        write_wheel(self.wheels, "small", "1.0")
        (self.wheels / "more").mkdir()

    def require(self, *lines: str) -> None:
        (self.folder / "requirements.txt").write_text("torch>=2.6\n" + "\n".join(lines) + "\n")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(self.folder / "launcher.py"), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        return {
            **kept,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PYTHONPATH": "/nowhere",
            "LC_ALL": "C.UTF-8",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {**self.environment, **environment}
        return subprocess.run(
            self.command(*arguments), env=variables, cwd=self.folder.parent, capture_output=True, text=True, timeout=120
        )

    @property
    def site(self) -> Path:
        return next((self.folder / ".venv" / "lib").glob("python3*")) / "site-packages"

    @property
    def handed_over(self) -> str:
        return f"studio ['doctor'] {self.folder} {self.folder.parent}\n"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that was set up once; its first start is checked here."""
    clone = Clone(tmp_path_factory.mktemp("set-up") / "clone")
    first = clone.start("doctor")
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout == clone.handed_over  # a pipe gets what the command says, even from the very first start
    lines = first.stderr.splitlines()
    assert lines[0].startswith(f"Setting up GLM Studio in {clone.folder}/.venv.")
    assert "[2/3] PyTorch 2.13.0 (no NVIDIA driver found)" in lines
    assert "[3/3] small" in lines
    assert lines[-1].startswith("GLM Studio is set up (")
    return clone


@pytest.fixture
def clone(prepared: Clone) -> Iterator[Clone]:
    """The prepared clone, put right again after the test."""
    yield prepared
    prepared.require("small")
    (prepared.folder / ".venv" / "setup.json").unlink(missing_ok=True)
    assert prepared.start("doctor").returncode == 0


def test_the_second_start_runs_no_pip(clone: Clone) -> None:
    log = clone.folder / ".venv" / "setup.log"
    written = log.stat().st_mtime_ns
    again = clone.start("doctor")
    assert (again.stdout, again.stderr, again.returncode) == (clone.handed_over, "", 0)
    assert log.stat().st_mtime_ns == written


def test_help_hands_over_when_ready_and_prints_our_own_before(clone: Clone) -> None:
    assert clone.start("--help").stdout.startswith("studio ['--help']")
    (clone.folder / ".venv" / "setup.json").unlink()
    assert clone.start("--help").stdout.strip() == (launcher.__doc__ or "").strip()
    assert clone.start("test", "--help").stdout.strip() == (launcher.__doc__ or "").strip()


@pytest.mark.slow
def test_a_new_requirement_is_installed(clone: Clone) -> None:
    write_wheel(clone.wheels, "another", "2.0")
    clone.require("small", "another")
    assert clone.start("doctor").stdout.endswith(clone.handed_over)
    assert (clone.site / "another").is_dir()


@pytest.mark.slow
def test_nothing_moves_the_torch_that_was_chosen(clone: Clone) -> None:
    write_wheel(clone.wheels, "torch", "2.14.0")
    clone.require("small", "torch>=2.14")
    failed = clone.start("doctor")
    assert failed.returncode == 1
    assert "setup.log" in failed.stderr
    assert (clone.site / "torch-2.13.0.dist-info").is_dir()


@pytest.mark.slow
def test_a_chosen_build_is_kept_until_auto_is_asked_for(clone: Clone) -> None:
    write_wheel(clone.wheels, "torch", "2.12.0")
    assert "PyTorch 2.12.0 (as asked)" in clone.start("--torch", "2.12.0", "doctor").stderr
    assert clone.start("doctor").stdout == clone.handed_over
    assert (clone.site / "torch-2.12.0.dist-info").is_dir()
    assert "PyTorch 2.13.0 (no NVIDIA driver found)" in clone.start("--torch", "auto", "doctor").stderr
    assert (clone.site / "torch-2.13.0.dist-info").is_dir()
    assert clone.start("doctor").stdout == clone.handed_over


@pytest.mark.slow
def test_a_package_that_was_half_unpacked_is_installed_again(clone: Clone) -> None:
    (clone.folder / ".venv" / "setup.json").unlink()
    (clone.site / "small-1.0.dist-info" / "RECORD").unlink()
    shutil.rmtree(clone.site / "small")
    assert clone.start("doctor").stdout.endswith(clone.handed_over)
    assert (clone.site / "small" / "__init__.py").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["python", "pip"])
def test_a_broken_environment_is_made_anew(clone: Clone, damage: str) -> None:
    if damage == "python":  # as after the system's Python was replaced
        for name in ("python", "python3", f"python3.{sys.version_info[1]}"):
            (clone.folder / ".venv" / "bin" / name).unlink(missing_ok=True)
        (clone.folder / ".venv" / "bin" / "python").symlink_to("/usr/bin/no-such-python")
    else:
        shutil.rmtree(clone.site / "pip")
        (clone.folder / ".venv" / "setup.json").unlink()
    again = clone.start("doctor")
    assert f"The environment in {clone.folder}/.venv does not work, so it is created again." in again.stderr
    assert again.stdout.endswith(clone.handed_over)


def test_no_network_is_said_in_plain_words(clone: Clone) -> None:
    clone.require("small", "absent")
    closed = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    failed = clone.start("doctor", **closed)
    assert failed.returncode == 1
    errors = failed.stderr.splitlines()
    assert errors[-2].startswith("The set-up cannot reach the package index (Connection refused).")
    assert errors[-1] == f"The full output is in {clone.folder}/.venv/setup.log."
    chinese = clone.start("doctor", **closed, LC_ALL="zh_CN.UTF-8")
    assert chinese.stderr.splitlines()[-2].startswith("无法连接软件包服务器")


@pytest.mark.slow
def test_a_second_launcher_waits_for_the_first_and_a_killed_one_is_no_obstacle(clone: Clone) -> None:
    write_sdist(clone.wheels, "slow", "1.0", clone.folder / "go")
    clone.require("small", "slow")
    first = subprocess.Popen(clone.command("doctor"), env=clone.environment, stderr=subprocess.DEVNULL)
    until(lambda: (clone.folder / "go.waiting").exists())
    first.kill()  # pip goes on for a while, as after a closed terminal
    first.wait()
    second = subprocess.Popen(
        clone.command("doctor"),
        env=clone.environment,
        cwd=clone.folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert second.stderr is not None
    assert second.stderr.readline() == (
        f"Another launcher (process {first.pid}) is setting up this folder. Waiting until it has finished; "
        "press Ctrl+C to give up.\n"
    )
    (clone.folder / "go").touch()
    output, _ = second.communicate(timeout=60)
    assert output == clone.handed_over
    assert (clone.site / "slow-1.0.dist-info").is_dir()


@pytest.mark.slow
def test_ctrl_c_says_that_the_next_start_goes_on(clone: Clone) -> None:
    write_sdist(clone.wheels, "endless", "1.0", clone.folder / "never")
    clone.require("small", "endless")
    started = subprocess.Popen(
        clone.command("doctor"),
        env=clone.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: (clone.folder / "never.waiting").exists())
    os.killpg(started.pid, signal.SIGINT)
    _, errors = started.communicate(timeout=30)
    assert errors.endswith("\nStopped. Start again to continue from here.\n")
    assert started.returncode == 130


def write_sdist(folder: Path, name: str, version: str, signal_file: Path) -> None:
    """A source package that builds with a backend of its own, which waits for a file: a slow package, on purpose."""
    import io
    import tarfile

    backend = f"""
import os, sys, time, zipfile
def build_wheel(folder, settings=None, metadata=None):
    open({str(signal_file) + ".waiting"!r}, "w").close()
    while not os.path.exists({str(signal_file)!r}):
        time.sleep(0.05)
    name = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("{name}.py", "")
        wheel.writestr("{name}-{version}.dist-info/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        wheel.writestr("{name}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("{name}-{version}.dist-info/RECORD", "")
    return name
"""
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {"pyproject.toml": project, "backend.py": backend, "PKG-INFO": f"Name: {name}\nVersion: {version}\n"}
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        for file, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{file}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
