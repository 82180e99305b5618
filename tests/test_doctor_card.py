"""The graphics cards, through a stand-in for NVIDIA's library that the real pynvml loads: one scene after another."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glmstudio.doctor import diagnose
from glmstudio.doctor.checks import gpu
from glmstudio.doctor.checks.gpu import version
from glmstudio.doctor.checks.gpu_health import judge_log
from glmstudio.system.nvml import GpuReading
from glmstudio.words import LANGUAGES
from tests.fakes.nvml import FakeDriver

ROOT = Path(__file__).parent.parent
# The family of checks on a machine of a kind: "host", "container" or "wsl".
SHOW = """
import json, sys
from glmstudio.doctor.checks import gpu as card, gpu_health as health, pytorch; from glmstudio.doctor import diagnose; from glmstudio.system import nvml
kind = sys.argv[1]
# What PyTorch answers here, without the second and a half that asking takes; test_doctor_pytorch.py asks it.
pytorch.ask_torch = lambda: {"version": "2", "cuda": None, "available": False, "count": 0, "architectures": [], "sums": {}}
for module in (card, health, nvml):
    for name, value in (("in_container", kind == "container"), ("in_wsl", kind == "wsl"),
                        ("has_the_machines_pids", kind != "container")):
        if hasattr(module, name):
            setattr(module, name, lambda value=value: value)
report = diagnose(only=["card"])
print(json.dumps({lang: report.to_json(lang) for lang in ("en", "zh")}))
"""
V100 = "Tesla V100-SXM2-32GB|32768|400|50|41|55000|300000"
BUSY_V100 = V100.replace("|400|", "|1024|")
RTX = "NVIDIA GeForce RTX 4090|24564|{used}|87|71|400000|450000"


def show(driver: FakeDriver, text: str, *, where: str = "host", **variables: str) -> dict[str, Any]:
    """The report of the cards in a scene; every sentence is there in both languages."""
    answer = subprocess.run(
        [sys.executable, "-c", SHOW, where],
        env={**os.environ, "GLMSTUDIO_HOME": str(driver.folder / "home"), **driver.environment(text), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    both: dict[str, dict[str, Any]] = json.loads(answer.stdout)
    for lang in LANGUAGES:
        assert all(all(finding.values()) for finding in both[lang]["findings"])
        assert all(fact["fact"] for fact in both[lang]["facts"]["checks"])
        assert [fact for fact in both[lang]["facts"]["checks"] if fact["status"] == "crash"] == []
    return both["en"]


def cases(data: dict[str, Any]) -> dict[str, str]:
    """The case of each check that had anything to say."""
    return {
        f"{fact['id']} {fact['subject']}".strip(): f"{fact['status']} {fact['case']}"
        for fact in data["facts"]["checks"]
        if fact["status"] != "skipped"
    }


@pytest.fixture
def driver(tmp_path: Path) -> FakeDriver:
    return FakeDriver(tmp_path)


def test_cards_and_who_uses_them(driver: FakeDriver) -> None:
    text = f"driver=580.65.06 cuda=13000 v2=1\n{BUSY_V100}|{os.getpid()}:700\nTesla V100|32768|0|0|30|0|1|\n"
    data = show(driver, text)
    user = data["facts"]["gpus"][0]["processes"][0].pop("user")
    assert user
    name = Path("/proc/self/comm").read_text().strip()
    assert data["facts"]["gpus"] == [
        {
            "index": 0, "name": "Tesla V100-SXM2-32GB", "uuid": "GPU-fake-0000", "total_mib": 32768, "free_mib": 31444,
            "temperature_c": 41, "processes": [{"pid": os.getpid(), "name": name, "used_mib": 700, "owner": "other"}],
            "capability": [7, 0], "utilization": 50, "power_w": 55, "unnamed_mib": 324,
        },
        {
            "index": 1, "name": "Tesla V100", "uuid": "GPU-fake-0001", "total_mib": 32768, "free_mib": 32468,
            "temperature_c": 30, "processes": [], "capability": [7, 0], "utilization": 0, "power_w": None, "unnamed_mib": 0,
        },
    ]  # fmt: skip
    facts = {fact["id"]: fact["fact"] for fact in data["facts"]["checks"]}
    assert (
        facts["gpu.driver"]
        == "Tesla V100-SXM2-32GB (30.7 GiB / 32.0 GiB), Tesla V100 (31.7 GiB / 32.0 GiB), driver 580.65.06"
    )
    assert data["findings"] == []


def test_a_run_of_ours_is_known_on_the_card(driver: FakeDriver, spawn: Any) -> None:
    ours = spawn("-c", "import time; time.sleep(60)", GLMSTUDIO_RUN_ID="a-run")
    data = show(driver, f"driver=580.65.06 cuda=13000 v2=1\n{V100}|{ours.pid}:700\n")
    assert [process["owner"] for process in data["facts"]["gpus"][0]["processes"]] == ["ours"]


# --- Scenes ----------------------------------------------------------------------------------------------------------


def test_one_v100_as_in_the_blog(driver: FakeDriver) -> None:
    data = show(driver, f"driver=515.105.01 cuda=11070 v2=1\n{V100}|\n")
    assert data["findings"] == []
    assert cases(data) == {
        "gpu.driver": "ok ok",
        "gpu.memory_free": "ok ok",
        "precision Tesla V100-SXM2-32GB": "ok fp16",
        "gpu.health GPU 0": "ok ok",
        "gpu.thermal": "ok ok",
        "gpu.mode": "ok ok",
    } | ({"gpu.xid": "ok ok"} if "gpu.xid" in cases(data) else {})


def test_a_4090_full_of_orphans(driver: FakeDriver, spawn: Any) -> None:
    orphans = [spawn("-c", "import time; time.sleep(60)", TORCHELASTIC_RUN_ID="x") for _ in range(3)]
    held = ",".join(f"{orphan.pid}:7000" for orphan in orphans)
    data = show(driver, f"driver=550.54.14 cuda=12040 v2=1\n{RTX.format(used=21300)}|{held}|cap=89\n")
    (finding,) = [finding for finding in data["findings"] if finding["id"] == "gpu.memory_free"]
    assert finding["severity"] == "warning"
    assert finding["what"].startswith(
        "The GPU with the most free memory, GPU 0, has only 2.9 GiB of 24.0 GiB free. In use by: "
    )
    assert all(f"({orphan.pid}, " in finding["what"] for orphan in orphans)
    assert finding["what"].count("6.8 GiB") == 3


def test_eight_cards_and_the_freest_of_them(driver: FakeDriver) -> None:
    lines = [f"NVIDIA A100-SXM4-80GB|81920|{80000 - 9000 * index}|10|40|1|1||cap=80" for index in range(8)]
    data = show(driver, "driver=550.54.14 cuda=12040 v2=1\n" + "\n".join(lines) + "\n", where="wsl")
    assert len(data["facts"]["gpus"]) == 8
    fact = next(fact["fact"] for fact in data["facts"]["checks"] if fact["id"] == "gpu.memory_free")
    assert fact == "GPU 7 has 63.1 GiB of 80.0 GiB free; ChatGLM3-6B needs about 14.0 GiB."


def test_a_card_in_parts(driver: FakeDriver) -> None:
    data = show(driver, "driver=550.54.14 cuda=12040 v2=1\nNVIDIA A100|81920|10|0|40|1|1||cap=80 mig=1\n")
    assert cases(data)["gpu.mode GPU 0"] == "info mig"


def test_windows_linux_names_no_memory_of_programs(driver: FakeDriver) -> None:
    data = show(
        driver, f"driver=550.54.14 cuda=12040 v2=1\n{RTX.format(used=3000)}|{os.getpid()}|cap=89\n", where="wsl"
    )
    assert data["facts"]["gpus"][0]["processes"][0]["used_mib"] is None
    assert data["facts"]["gpus"][0]["unnamed_mib"] is None
    assert data["findings"] == []


def test_in_a_container_a_number_of_the_host_is_not_taken_for_a_process_here(driver: FakeDriver) -> None:
    data = show(driver, f"driver=580.65.06 cuda=13000\n{V100}|{os.getpid()}:700\n", where="container")
    assert data["facts"]["gpus"][0]["processes"] == [
        {"pid": os.getpid(), "name": "host-program", "user": "", "used_mib": 700, "owner": ""}
    ]
    assert data["findings"] == []


def test_an_old_driver_without_the_second_memory_version(driver: FakeDriver) -> None:
    data = show(driver, f"driver=470.57.02 cuda=11040\n{BUSY_V100}|\n")
    assert data["facts"]["gpus"][0]["free_mib"] == 31744
    assert data["findings"] == []


def test_a_card_that_supports_nothing_but_its_name(driver: FakeDriver) -> None:
    data = show(driver, "driver=390.10 cuda=9010\nGeForce GT 710|2048|100|0|0|0|0||bare=1\n")
    gpu = data["facts"]["gpus"][0]
    assert (gpu["temperature_c"], gpu["capability"], gpu["utilization"], gpu["power_w"]) == (None, [0, 0], None, None)
    assert data["findings"] == []


def test_a_card_that_fell_off_the_bus(driver: FakeDriver) -> None:
    data = show(driver, f"driver=550.54.14 cuda=12040 v2=1\n{V100}|\n{V100}||lost=1\n")
    found = cases(data)
    assert (found["gpu.driver GPU 1"], found["gpu.driver"]) == ("error lost", "ok ok")
    assert [gpu["index"] for gpu in data["facts"]["gpus"]] == [0]


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("error=18\n", "error restart"),
        ("error=999\n", "error unreadable"),
        ("driver=580.65.06 cuda=13000\n", "ok empty"),
    ],
)
def test_a_driver_in_trouble(text: str, case: str, driver: FakeDriver) -> None:
    assert cases(show(driver, text)) == {"gpu.driver": case}


def test_no_library_at_all(driver: FakeDriver) -> None:
    assert cases(show(driver, "", LD_LIBRARY_PATH="/nowhere")) == {"gpu.driver": "ok none"}


@pytest.mark.parametrize(
    ("options", "check", "case"),
    [
        ("ecc=3", "gpu.health", "error uncorrected"),
        ("retired=1", "gpu.health", "warning pending"),
        ("remap=10", "gpu.health", "warning pending"),
        ("remap=11", "gpu.health", "error failing"),
        ("recovery=2", "gpu.health", "error failing"),
        ("reasons=0x40", "gpu.thermal", "warning hot"),
        ("reasons=0x80", "gpu.thermal", "warning starved"),
        ("mode=2", "gpu.mode", "error prohibited"),
        ("mode=3", "gpu.mode", "info exclusive"),
    ],
)
def test_what_a_card_says_of_itself(options: str, check: str, case: str, driver: FakeDriver) -> None:
    data = show(driver, f"driver=550.54.14 cuda=12040 v2=1\n{V100}||{options}\n")
    assert cases(data)[f"{check} GPU 0"] == case
    assert [finding["id"] for finding in data["findings"]] == [check]


def test_being_idle_or_at_its_power_limit_is_normal(driver: FakeDriver) -> None:
    assert show(driver, f"driver=550.54.14 cuda=12040 v2=1\n{V100}||reasons=0x5\n")["findings"] == []


@pytest.mark.parametrize(
    ("chosen", "case"),
    [
        ("0", "ok ok"),
        ("GPU-fake-0000", "ok ok"),
        ("7", "error absent"),
        ("GPU-dead", "error absent"),
        ("", "info hidden"),
        ("-1", "info hidden"),
    ],
)
def test_chosen_cards_that_are_there_and_are_not(chosen: str, case: str, driver: FakeDriver) -> None:
    data = show(driver, f"driver=550.54.14 cuda=12040 v2=1\n{V100}|\n", CUDA_VISIBLE_DEVICES=chosen)
    assert cases(data)["gpu.identity"] == case


@pytest.mark.parametrize(("driver_version", "case"), [("535.54.03", "info direct"), ("550.40.07", "ok ok")])
def test_several_rtx_40_cards(driver_version: str, case: str, driver: FakeDriver) -> None:
    card_line = RTX.format(used=500) + "||cap=89\n"
    data = show(driver, f"driver={driver_version} cuda=12040 v2=1\n{card_line}{card_line}")
    assert cases(data)["nccl.p2p"] == case


def test_memory_that_nobody_is_named_for(driver: FakeDriver) -> None:
    data = show(driver, f"driver=550.54.14 cuda=12040 v2=1\n{RTX.format(used=9000)}||cap=89\n")
    (finding,) = [finding for finding in data["findings"] if finding["id"] == "gpu.unaccounted_mem"]
    assert finding["what"] == "8.8 GiB of GPU 0 are in use, but by nothing that this user can see."


HOLD = "import sys, time; kept = open(sys.argv[1]); print(flush=True); time.sleep(60)"


def test_who_has_a_card_open_is_found(spawn: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A data loader keeps the card's device file open that it inherited."""
    device = tmp_path / "nvidia0"
    device.write_text("")
    orphan = spawn("-c", HOLD, str(device), TORCHELASTIC_RUN_ID="x")
    orphan.stdout.readline()
    monkeypatch.setattr(gpu, "_DEVICE", re.compile(re.escape(str(device))))
    assert gpu._have_a_card_open() == [orphan.pid]


@pytest.mark.parametrize(
    ("problem", "on_bus", "contained", "status", "case"),
    [
        ("LibraryNotFound", False, False, "ok", "none"),
        ("LibraryNotFound", True, True, "ok", "none"),
        ("LibraryNotFound", True, False, "warning", "no_driver"),
        ("DriverNotLoaded", True, False, "error", "no_driver"),
    ],
)
def test_no_driver(
    problem: str, on_bus: bool, contained: bool, status: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "read_cards", lambda: GpuReading(problem=problem))
    monkeypatch.setattr(gpu, "_card_on_bus", lambda: on_bus)
    monkeypatch.setattr(gpu, "in_container", lambda: contained)
    (result,) = diagnose(only=["gpu.driver"]).results
    assert (result.status, result.case) == (status, case)


def test_errors_in_the_kernels_log() -> None:
    lines = [
        "NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        "NVRM: Xid (PCI:0000:01:00): 31, pid=5, name=python, Ch 00000008",
        "NVRM: Xid (PCI:0000:01:00): 63, Row Remapper: New row marked for remapping",
        "NVRM: Xid (PCI:0000:01:00): 79, again",
        "something else",
    ]
    found = judge_log(lines)
    assert [(each.status, each.case, each.values["number"]) for each in found] == [
        ("error", "broken", 79),
        ("warning", "worn", 63),
    ]
    assert replace(found[0], id="gpu.xid", family="card").what("en") == (
        "In the last 24 hours the driver logged the hardware error Xid 79."
    )
    assert [each.case for each in judge_log([lines[1]])] == ["ok"]


def test_versions_compare_as_numbers() -> None:
    assert version("515.105.01") == (515, 105, 1) > version("515.65.01")
    assert version("550.40.07") >= (550, 40, 7)
    assert version("") == ()
