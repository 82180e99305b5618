"""Python, packages and PyTorch, with real broken ones."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from glmstudio.doctor import Gpu, diagnose
from glmstudio.doctor.checks import python_packages, pytorch
from glmstudio.doctor.engine.check import CHECKS, Probes
from glmstudio.doctor.engine.report import Finding
from glmstudio.system import nvml
from glmstudio.system.nvml import GpuReading
from glmstudio.words import LANGUAGES

V100 = Gpu(0, "Tesla V100", "GPU-1", 32768, 32000, 30, (), (7, 0))
TORCH = {"version": "2.13.0+cu126", "cuda": "12.6", "available": True, "count": 1, "architectures": ["sm_70", "sm_80"]}


def one(name: str) -> Finding:
    (result,) = diagnose(only=[name]).results
    return result


# --- Python and PyTorch ----------------------------------------------------------------------------------------------


def test_an_unfit_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 1, "final", 0))
    result = one("py.version")
    assert result.status == "error"
    assert result.what("en") == "The studio runs on Python 3.14.1, which its packages do not support."


def test_missing_and_unfit_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# a comment\npsutil>=999  # why\nno-such-package\ntomli; python_version < '3'\npytest\n")
    monkeypatch.setattr(python_packages, "requirements", lambda read=python_packages.requirements: read(file))
    result = one("py.deps")
    assert result.status == "error"
    assert result.fact("en") == f"Missing or wrong version: psutil {_version('psutil')} (>=999); no-such-package"


def _version(name: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(name)


def test_a_torch_that_does_not_start(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = one("torch.start")
    assert result.status == "error"
    assert result.what("en") == (
        "PyTorch is installed, but does not start: ImportError: libcudart.so.12: cannot open shared object file"
    )


def test_a_torch_that_takes_too_long(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(pytorch, "ask_torch", lambda ask=pytorch.ask_torch: ask(limit=0.5))
    assert one("torch.start").case == "slow"


def test_a_missing_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch.importlib.util, "find_spec", lambda name: None)
    assert one("torch.start").case == "missing"


def judged(facts: dict[str, Any], cards: GpuReading) -> dict[str, Finding]:
    """What the checks of PyTorch say of such answers and cards."""
    probes = Probes()
    probes.ask(lambda: None)
    probes._answers[pytorch.remembered_facts] = answered({**TORCH, "sums": {}, **facts})
    probes._answers[nvml.read_cards] = answered(cards)
    checks = [check for check in CHECKS if check.function.__module__ == pytorch.__name__]
    results = [result for check in checks for result in check.run(probes)]
    assert all(result.fact(lang) for result in results for lang in LANGUAGES)
    return {result.id: result for result in results if result.status != "skipped"}


def answered(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def gpu(name: str, capability: tuple[int, int]) -> Gpu:
    return Gpu(0, name, "GPU-1", 32768, 32000, 30, (), capability)


LAUNCHER = "Close the studio and run `python launcher.py --torch auto`: it installs PyTorch "


@pytest.mark.parametrize(
    ("name", "capability", "driver", "build"),
    [
        ("Tesla V100", (7, 0), "515.105.01", "2.7.1+cu118"),
        ("Tesla V100", (7, 0), "580.65.06", "2.13.0+cu126"),
        ("RTX 4090", (8, 9), "515.105.01", "2.7.1+cu118"),
        ("RTX 5090", (12, 0), "570.26", "2.11.0+cu128"),
        ("H100", (9, 0), "580.65.06", "2.13.0"),
    ],
)
def test_the_exact_build_is_named(name: str, capability: tuple[int, int], driver: str, build: str) -> None:
    cards = GpuReading((gpu(name, capability),), driver)
    result = judged({"cuda": None, "available": False, "count": 0, "architectures": []}, cards)["torch.cuda_build"]
    assert (result.status, result.case, result.action) == ("error", "processor_only", "torch.install")
    assert result.fix("en") == f"{LAUNCHER}{build}, which fits the driver {driver} and your GPU."


def test_a_pytorch_too_new_for_the_driver_of_the_blog() -> None:
    cards = GpuReading((V100,), "515.105.01")
    found = judged({"cuda": "13.0", "available": False, "count": 0, "architectures": []}, cards)
    assert {name: result.status for name, result in found.items()} == {
        "torch.start": "ok",
        "torch.cuda_build": "ok",
        "torch.driver_match": "error",
    }
    assert found["torch.driver_match"].what("en") == (
        "PyTorch 2.13.0+cu126 (CUDA 13.0) cannot use the GPU with driver 515.105.01."
    )
    assert found["torch.driver_match"].fix("en") == (
        f"{LAUNCHER}2.7.1+cu118, which fits this driver. Or update the driver."
    )


def test_a_pytorch_without_code_for_the_card() -> None:
    found = judged({"architectures": ["sm_75", "sm_80", "sm_90"]}, GpuReading((V100,), "580.65.06"))
    assert found["torch.arch_match"].what("en") == (
        "PyTorch 2.13.0+cu126 has no code for your Tesla V100 (compute capability 7.0)."
    )
    assert "PyTorch 2.13.0+cu126, which has code" in found["torch.arch_match"].fix("en")


def test_a_driver_too_old_for_all() -> None:
    found = judged({"cuda": "12.6", "available": False, "count": 0}, GpuReading((V100,), "418.40"))
    result = found["torch.driver_match"]
    assert (result.action, result.remedy) == ("", "old_driver")
    assert result.fix("en").startswith("The driver 418.40 is too old for every PyTorch that the studio can use.")


def test_a_fit_pytorch_and_none_that_is_needed() -> None:
    found = judged({"sums": {"0": "ok"}}, GpuReading((V100,), "580.65.06"))
    assert {result.status for result in found.values()} == {"ok"}
    assert set(found) == {
        "torch.start",
        "torch.cuda_build",
        "torch.driver_match",
        "torch.arch_match",
        "gpu.kernel_smoke",
    }
    assert set(judged({"cuda": None, "available": False}, GpuReading())) == {"torch.start"}


def test_hidden_cards_are_no_error_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "torch.driver_match" not in judged({"available": False}, GpuReading((V100,), "580"))


@pytest.mark.parametrize(
    ("outcome", "status", "case"),
    [
        ("ok", "ok", "ok"),
        ("late", "error", "late"),
        ("AcceleratorError: CUDA error: no kernel image is available for execution on the device", "error", "no_code"),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 MiB.", "warning", "full"),
        ("RuntimeError: cuBLAS failed", "error", "failed"),
    ],
)
def test_the_sum_on_each_card(outcome: str, status: str, case: str) -> None:
    result = judged({"sums": {"0": outcome}}, GpuReading((V100,), "580.65.06"))["gpu.kernel_smoke"]
    assert (result.status, result.case, result.subject) == (status, case, "GPU 0")


# A torch with a card that hangs at its first sum, or that cannot compute.
FAKE_TORCH = """
import sys, time, types
__version__ = "2.13.0+cu126"
version = types.SimpleNamespace(cuda="12.6")
float16 = None
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)
    get_arch_list = staticmethod(lambda: ["sm_70"])
def randn(*size, device, **more):
    if device == "cuda:1":
        time.sleep(60)
    raise RuntimeError("CUDA error: no kernel image is available\\nfor execution")
"""


def test_a_card_that_hangs_is_known_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    facts = pytorch.ask_torch(limit=2)
    assert facts["sums"] == {"0": "RuntimeError: CUDA error: no kernel image is available", "1": "late"}
    assert facts["architectures"] == ["sm_70"]


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((7, 0), ["sm_70"], True),
        ((8, 9), ["sm_80", "sm_86"], True),
        ((7, 0), ["sm_75", "sm_80"], False),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((12, 0), ["sm_120"], True),
        ((9, 0), ["sm_90a"], True),
        ((7, 0), [], False),
    ],
)
def test_code_for_a_card(capability: tuple[int, int], architectures: list[str], runs: bool) -> None:
    assert pytorch.has_code_for(capability, architectures) is runs


# --- Packages --------------------------------------------------------------------------------------------------------


def distribution(folder: Path, name: str, version: str, *requires: str) -> None:
    """A package as pip leaves it, as far as its notes go."""
    notes = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    notes.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (notes / "METADATA").write_text("\n".join(lines) + "\n")


def test_packages_that_do_not_fit_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "first", "1.0", "second>=3", "third; python_version < '3'", "fourth; extra == 'more'")
    distribution(tmp_path, "second", "2.0", "first")
    (tmp_path / "requirements.txt").write_text("first\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        python_packages, "requirements", lambda read=python_packages.requirements: read(tmp_path / "requirements.txt")
    )
    result = one("py.deps")
    assert (result.status, result.case) == ("warning", "clash")
    assert result.fact("en") == "Incompatible packages: first: second 2.0 (>=3)"
    (tmp_path / "requirements.txt").write_text("first[more]\n")
    assert "first: fourth" in one("py.deps").fact("en")


def test_an_old_package_over_nvidias_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one("py.nvml_pkg").case == "ok"
    distribution(tmp_path, "pynvml", "11.5.3")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = one("py.nvml_pkg")
    assert (result.status, result.values) == ("warning", {"version": "11.5.3"})


def test_transformers_brings_the_model_and_is_not_loaded() -> None:
    assert one("py.transformers").status == "ok"
