"""Windows and macOS, as far as Linux can pretend them: what imports, what works, and what is refused before the click."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.light_modules import LIGHT, ROOT
from tests.marks import rare, slow


def on(system: str, code: str) -> str:
    """What the code prints in a process that takes itself for one of that system."""
    command = [sys.executable, "-m", "tests.other_system", system, code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("system", ["win32", slow("darwin")])
def test_every_light_module_imports(home: Path, system: str) -> None:
    names = ["launcher", "glmstudio.setup.install", *LIGHT]
    code = f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)\nprint('all')"
    assert on(system, code).endswith("all\n")


@pytest.mark.parametrize(("system", "way"), [slow("win32", "wsl --install"), ("darwin", "a Linux machine")])
def test_the_doctor_tells_what_does_not_work(home: Path, system: str, way: str) -> None:
    code = "import sys\nfrom glmstudio.cli import main\nsys.exit(main(['doctor', '--json']) and 0)"
    report = json.loads(on(system, code))
    checks = report["facts"]["checks"]
    assert len(checks) > 20
    assert [each["id"] for each in checks if each["case"] in ("crash", "late")] == []
    (told,) = [each for each in report["findings"] if each["id"] == "sys.env" and "need Linux" in each["what"]]
    assert way in told["fix"]
    assert "GPU" in told["why"]


@pytest.mark.slow
@pytest.mark.parametrize("system", ["win32", rare("darwin")])
def test_data_the_plan_and_harmless_tools_work(home: Path, system: str) -> None:
    code = """
from pathlib import Path
from glmstudio.cli import main
from glmstudio.paths import DEMO
from glmstudio.tools.call import call
from glmstudio.tools.toolbox import shipped
assert main(["data", "check", str(DEMO / "sample.jsonl"), "--model", "demo"]) == 0
assert main(["train", "demo/ptuning_v2", "--plan", "--set", "device=cpu"]) == 0
refused = call(shipped()["interpreter"], {"code": "1"}).stopped
print(call(shipped()["calculator"], {"expression": "6*7"}).content, refused and refused.key)
"""
    assert on(system, code).splitlines()[-1] == "42 tools.no_fence"


@pytest.mark.parametrize(("system", "way"), [("win32", "WSL2"), slow("darwin", "Linux machine")])
def test_what_does_not_work_is_refused_before_the_click(home: Path, system: str, way: str) -> None:
    code = """
from glmstudio.cluster.spec import make_cluster
from glmstudio.config import deepspeed
from glmstudio.config.presets import find_preset
from glmstudio.errors import StudioError
from glmstudio.planning.engines import problem
settings = find_preset("demo/ptuning_v2").settings
assert problem(settings, "cpu") is None
print(problem(settings, "GPU-1"))
for ask in (deepspeed.check, lambda: make_cluster([("10.0.0.1", "1"), ("10.0.0.2", "1")])):
    try:
        ask()
    except StudioError as refused:
        print(refused)
"""
    lines = on(system, code).splitlines()
    assert len(lines) == 3
    assert all("needs Linux" in line and way in line for line in lines), lines


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("system", [rare("win32"), "darwin"])
def test_the_demo_trains_on_the_cpu(home: Path, system: str) -> None:
    """The supervisor and the trainer; torchrun between them is this machine's."""
    code = """
from glmstudio.config.presets import find_preset
from glmstudio.runs import start, supervise
start.launch = lambda run: None
run = start.start_run(find_preset("demo/ptuning_v2"), name="first", changes={"steps": 2, "device": "cpu", "validation_share": 0.0})
assert supervise.main(run.path) == 0
print(run.read_state().state, sorted(file.name for file in (run.path / "result").iterdir()))
"""
    assert on(system, code).splitlines()[-1].startswith("finished")
