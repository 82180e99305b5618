"""NVIDIA's library without NVIDIA: a C library of the same name that reads its cards from a text file."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("nvml.c")


@cache
def _compiled() -> Path:
    library = Path(tempfile.mkdtemp(prefix="glmstudio-nvml-")) / "library.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", str(library), str(_SOURCE)], check=True)
    return library


class FakeDriver:
    """The library, compiled into a folder. A program that loads it must be started with `environment(...)`."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("gcc") is None:
            pytest.skip("needs gcc to build the stand-in for NVIDIA's library")
        self.folder = folder
        self.library = folder / "libnvidia-ml.so.1"
        shutil.copyfile(_compiled(), self.library)

    def environment(self, text: str) -> dict[str, str]:
        """Variables under which the cards of `text` are found: lines as in `nvml.c`."""
        cards = self.folder / "cards.txt"
        cards.write_text(text, encoding="utf-8")
        return {"LD_LIBRARY_PATH": str(self.folder), "FAKE_NVML": str(cards)}
