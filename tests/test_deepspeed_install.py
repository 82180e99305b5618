"""Installing DeepSpeed in the background: a real pip in a copy of the studio, with a folder of wheels instead of an index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from glmstudio.config.optional_packages import DEEPSPEED
from glmstudio.files import write_json
from glmstudio.paths import ROOT
from tests.wheels import write_wheel

# Two clicks, then the page's look at it until it has ended; and how many jobs there were.
CLICKS = """
import json, time
from glmstudio.config import deepspeed
from glmstudio.config.optional_packages import DEEPSPEED
DEEPSPEED.install()
first = (DEEPSPEED.job.folder / "job.json").read_text()
DEEPSPEED.install()
same = (DEEPSPEED.job.folder / "job.json").read_text() == first
seen = {DEEPSPEED.installation().state}
while (now := DEEPSPEED.installation()).state == "running":
    time.sleep(0.05)
print(json.dumps([same, sorted(seen), now.state, now.line, now.problem and now.problem.to_json(), deepspeed.installed()]))
"""


def click(clone: Path, home: Path, wheels: Path) -> list[Any]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    own = {"PYTHONPATH": str(clone), "GLMSTUDIO_HOME": str(home), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [str(clone / ".venv/bin/python"), "-c", CLICKS],
        env=kept | pip | own,
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_it_is_installed_once_and_a_failure_is_told_with_a_way_out(tmp_path: Path) -> None:
    clone, wheels = tmp_path / "clone", tmp_path / "wheels"
    shutil.copytree(ROOT / "glmstudio", clone / "glmstudio", ignore=shutil.ignore_patterns("demo", "__pycache__"))
    shutil.copy(DEEPSPEED.requirements, clone)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(clone / ".venv")], check=True)
    site = next((clone / ".venv/lib").glob("python3*")) / "site-packages"
    (site / "below.pth").write_text(str(Path(psutil.__file__).parents[1]) + "\n", encoding="utf-8")
    (site / "torch-2.13.0.dist-info").mkdir()
    (site / "torch-2.13.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n")
    wheels.mkdir()
    same, seen, state, _, problem, version = click(clone, tmp_path / "home", wheels)
    assert (same, seen, state, version) == (True, ["running"], "failed", None)
    assert problem["key"] == "engines.install_failed"
    assert "No matching distribution found for deepspeed" in str(problem)
    write_wheel(wheels, "deepspeed", "0.19.9")
    same, seen, state, line, problem, version = click(clone, tmp_path / "home", wheels)
    assert (same, seen, state, problem, version) == (True, ["running"], "done", None, "0.19.9")
    assert "done" in line
    assert (clone / ".venv/torch.txt").read_text() == "torch==2.13.0\n"


def test_an_installation_whose_process_is_gone_was_interrupted(home: Path) -> None:
    assert DEEPSPEED.installation().state == "none"
    gone = {"pid": 2**22 + 1, "start": 1, "boot_id": "x"}
    write_json(home / "state/deepspeed/job.json", {"created": 0, "identity": gone})
    found = DEEPSPEED.installation()
    assert found.state == "interrupted"
    assert found.problem is not None
    assert found.problem.key == "engines.install_interrupted"
