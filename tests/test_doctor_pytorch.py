"""Python, packages and PyTorch, with real broken ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from glmstudio.doctor import Gpu, diagnose, pytorch
from glmstudio.doctor.nvml import Cards
from glmstudio.doctor.report import Result
from glmstudio.words import LANGUAGES

V100 = Gpu(0, "Tesla V100", "GPU-1", 32768, 32000, 30, (), (7, 0))
TORCH = {"version": "2.13.0+cu126", "cuda": "12.6", "available": True, "count": 1, "architectures": ["sm_70", "sm_80"]}


def one(name: str) -> Result:
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
    monkeypatch.setattr(pytorch, "_requirements", lambda read=pytorch._requirements: read(file))
    result = one("py.deps")
    assert result.status == "error"
    assert result.fact("en") == f"Missing or unfit: psutil {_version('psutil')} (>=999); no-such-package"


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
        "PyTorch is installed but does not start: ImportError: libcudart.so.12: cannot open shared object file"
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


@pytest.mark.parametrize(
    ("torch", "gpus", "status", "case"),
    [
        ({}, (), "ok", "processor"),
        ({}, (V100,), "ok", "ok"),
        ({"cuda": None, "available": False}, (V100,), "error", "processor_only"),
        ({"available": False, "count": 0}, (V100,), "error", "no_access"),
        ({"architectures": ["sm_75", "sm_80", "sm_90"]}, (V100,), "error", "no_code"),
    ],
)
def test_torch_must_fit_the_cards(torch: dict[str, Any], gpus: tuple[Gpu, ...], status: str, case: str) -> None:
    judged = pytorch._judge({**TORCH, **torch}, Cards(gpus, "515.105.01"))
    assert (judged.status, judged.case) == (status, case)
    result = Result("torch.start", "pytorch", judged.status, judged.case, judged.values)
    assert all(result.fact(lang) for lang in LANGUAGES)


def test_hidden_cards_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pytorch._judge({**TORCH, "available": False}, Cards((V100,), "580")).case == "hidden"


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
