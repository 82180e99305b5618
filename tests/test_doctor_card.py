"""The graphics cards, through a stand-in for NVIDIA's library that the real pynvml loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glmstudio.doctor import card as card_checks
from glmstudio.doctor import diagnose
from glmstudio.doctor.nvml import Cards
from glmstudio.doctor.report import Result
from tests.fakes.nvml import FakeDriver


def one(name: str) -> Result:
    (result,) = diagnose(only=[name]).results
    return result


# --- Graphics card ---------------------------------------------------------------------------------------------------

SHOW = """
import json, sys
from glmstudio.doctor import card, diagnose
card._sees_the_drivers_processes = lambda: sys.argv[1] == "host"
print(json.dumps(diagnose(only=["gpu"]).to_json()))
"""


def show_cards(driver: FakeDriver, text: str, *, where: str = "host") -> dict[str, Any]:
    environment = {**os.environ, **driver.environment(text)}
    answer = subprocess.run(
        [sys.executable, "-c", SHOW, where],
        env=environment,
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    data: dict[str, Any] = json.loads(answer.stdout)
    return data


def test_cards_and_who_uses_them(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path)
    text = f"driver=580.65.06 cuda=13000 v2=1\nTesla V100|32768|1024|50|41|1|1|{os.getpid()}:700\nTesla V100|32768|0|0|30|1|1|\n"
    data = show_cards(driver, text)
    user = data["facts"]["gpus"][0]["processes"][0].pop("user")
    assert user
    assert data["facts"]["gpus"] == [
        {
            "index": 0, "name": "Tesla V100", "uuid": "GPU-fake-0000", "total_mib": 32768, "free_mib": 31444,
            "temperature_c": 41, "processes": [{"pid": os.getpid(), "name": _own_name(), "used_mib": 700}],
            "capability": [7, 0],
        },
        {
            "index": 1, "name": "Tesla V100", "uuid": "GPU-fake-0001", "total_mib": 32768, "free_mib": 32468,
            "temperature_c": 30, "processes": [], "capability": [7, 0],
        },
    ]  # fmt: skip
    assert data["facts"]["checks"][0]["fact"] == "Tesla V100 (30.7 / 32.0 GB), Tesla V100 (31.7 / 32.0 GB), driver 580.65.06"


def _own_name() -> str:
    return Path("/proc/self/comm").read_text().strip()


def test_an_old_driver_without_the_second_memory_version(tmp_path: Path) -> None:
    data = show_cards(FakeDriver(tmp_path), "driver=470.57.02 cuda=11040\nTesla V100|32768|1024|50|41|1|1|\n")
    assert data["facts"]["gpus"][0]["free_mib"] == 31744


def test_in_a_container_a_number_of_the_host_is_not_taken_for_a_process_here(tmp_path: Path) -> None:
    text = f"driver=580.65.06 cuda=13000\nTesla V100|32768|1024|50|41|1|1|{os.getpid()}:700\n"
    data = show_cards(FakeDriver(tmp_path), text, where="container")
    assert data["facts"]["gpus"][0]["processes"] == [{"pid": os.getpid(), "name": "host-program", "user": "", "used_mib": 700}]


@pytest.mark.parametrize(
    ("text", "status", "case"),
    [
        ("error=18\n", "error", "restart"),
        ("error=999\n", "error", "unreadable"),
        ("driver=580.65.06 cuda=13000\n", "info", "empty"),
    ],
)
def test_a_driver_in_trouble(text: str, status: str, case: str, tmp_path: Path) -> None:
    (result,) = show_cards(FakeDriver(tmp_path), text)["facts"]["checks"]
    assert (result["status"], result["case"]) == (status, case)


@pytest.mark.parametrize(
    ("problem", "on_bus", "in_container", "status", "case"),
    [
        ("LibraryNotFound", False, False, "info", "none"),
        ("LibraryNotFound", True, True, "info", "none"),
        ("LibraryNotFound", True, False, "warning", "no_driver"),
        ("DriverNotLoaded", True, False, "error", "no_driver"),
    ],
)
def test_no_driver(
    problem: str, on_bus: bool, in_container: bool, status: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_checks, "read_cards", lambda: Cards(problem=problem))
    monkeypatch.setattr(card_checks, "_card_on_bus", lambda: on_bus)
    monkeypatch.setattr(card_checks, "_in_container", lambda: in_container)
    result = one("gpu.driver")
    assert (result.status, result.case) == (status, case)
