"""The links between GPUs: two real workers on the CPU copy and add up; what the measurements mean, by tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glmstudio.doctor.checks import gpu_links, training_start
from glmstudio.doctor.checks.gpu_links import Links, judge, measure
from glmstudio.doctor.diagnosis import diagnose
from glmstudio.doctor.engine.report import Finding

ROOT = Path(__file__).parents[1]
RIGHT = Links("", "nccl", (), 10.0)
FAST = Links("", "nccl", (), 20.0)
CHANGED = Links("", "nccl", ((0, 1), (1, 0)), 10.0)
HANGS = Links("hangs")
# A worker whose memory is changed on the way: what it sends differs by one bit, or its sums are wrong.
FAULTY = """
import os
from glmstudio.train.distributed import links
right = links.pattern
def wrong(source, target, size):
    values = right(source, target, size)
    if os.environ["RANK"] == "1" == str(source): values[size // 2] ^= 1
    return values
links.pattern = wrong
links.main()
"""


@pytest.mark.slow
def test_two_workers_on_the_cpu_copy_and_add_up(home: Path) -> None:
    found = measure(2, gpu_links.P2P_OFF)
    assert (found.problem, found.backend, found.wrong, found.right_sums) == ("", "gloo", (), True)
    assert found.gb_s > 0
    assert found.is_right


@pytest.mark.slow
def test_one_bit_that_changes_on_the_way_is_found(home: Path, tmp_path: Path) -> None:
    common = {**os.environ, "WORLD_SIZE": "2", "GLMSTUDIO_MEETING": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", FAULTY], cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env=common | {"RANK": rank, "LOCAL_RANK": rank, "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in "01"
    ]  # fmt: skip
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    told = json.loads(said[0].removeprefix("links "))
    assert (told["wrong"], told["workers"], told["right_sums"]) == ([[1, 0]], 2, True)


@pytest.mark.slow
def test_workers_that_hang_or_fail_are_no_measurement(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = [sys.executable, "-c", "import time; time.sleep(100)"]
    monkeypatch.setattr(training_start, "launch_line", lambda *_, **__: line)
    monkeypatch.setattr(gpu_links, "_LIMIT", 0.3)
    assert measure(2) == Links("hangs")
    line[:] = [sys.executable, "-c", "print('links {}'); raise RuntimeError('no link')"]
    monkeypatch.setattr(gpu_links, "_LIMIT", 60.0)
    assert measure(2) == Links("RuntimeError: no link")


@pytest.mark.parametrize(
    ("direct", "without", "status", "case"),
    [
        (FAST, RIGHT, "ok", "ok"), (RIGHT, RIGHT, "ok", "ok"), (RIGHT, FAST, "warning", "slow"),
        (RIGHT, HANGS, "ok", "only_direct"), (CHANGED, RIGHT, "error", "p2p_wrong"), (HANGS, RIGHT, "error", "p2p_hangs"),
        (Links("RuntimeError: no"), RIGHT, "error", "p2p_failed"), (CHANGED, CHANGED, "error", "all_wrong"),
        (HANGS, HANGS, "error", "all_hangs"), (Links("x"), HANGS, "error", "all_failed"),
        (Links("", "nccl", (), 10.0, right_sums=False), RIGHT, "error", "p2p_wrong"),
    ],
)  # fmt: skip
def test_both_measurements_together_say_what_to_export(direct: Links, without: Links, status: str, case: str) -> None:
    result = judge(2, direct, without)
    assert (result.status, result.case) == (status, case)
    result = Finding(result.status, result.case, result.values, id="dist.links")
    for lang in ("en", "zh"):
        assert result.fact(lang)
        exports = "`export NCCL_P2P_DISABLE=1`" in result.fix(lang)
        assert exports is (case == "slow" or case.startswith("p2p"))
    assert not exports or without.is_right, "nothing is advised that was not seen to work"


def test_the_pairs_are_named_and_so_is_a_wrong_sum() -> None:
    assert judge(2, CHANGED, RIGHT).values["pairs"] == "0 → 1, 1 → 0"
    assert judge(2, Links("", "nccl", (), 1.0, right_sums=False), RIGHT).values["pairs"] == "all_reduce"


@pytest.mark.parametrize(("count", "asked"), [(1, 0), (2, 2)])
def test_only_two_or_more_gpus_have_links(
    count: int, asked: int, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = SimpleNamespace(gpus=(object(),) * count)
    measured: list[Any] = []
    monkeypatch.setattr(gpu_links, "read_cards", lambda: cards)
    monkeypatch.setattr(gpu_links, "measure", lambda *how: measured.append(how) or RIGHT)
    (result,) = diagnose(only=["dist.links"]).results
    assert (result.status, len(measured)) == ("ok" if asked else "skipped", asked)
    assert measured[1:] == ([(2, gpu_links.P2P_OFF)] if asked else [])


def test_gpus_that_pytorch_does_not_see_are_not_measured(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_links, "read_cards", lambda: SimpleNamespace(gpus=(object(),) * 2))
    monkeypatch.setattr(gpu_links, "measure", lambda *how: Links("", "gloo", (), 1.0))
    (result,) = diagnose(only=["dist.links"]).results
    assert result.fact("en") == "Not measured: PyTorch does not see all of the 2 GPUs."
