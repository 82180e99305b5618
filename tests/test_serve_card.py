"""The measurement for a card runs with few packages: everything else is kept from it here, on a tiny model."""

from __future__ import annotations

import subprocess
import sys

import pytest

from glmstudio.paths import ROOT

_WITH_FEW = """
import importlib.machinery, runpy, sys
FORBIDDEN = {"gradio", "fastapi", "starlette", "uvicorn", "modelscope", "bitsandbytes", "mcp", "pynvml", "markdown_it",
             "playwright", "openai", "pytest", "hypothesis", "deepspeed"}
class Few(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in FORBIDDEN else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Few
sys.argv = ["card", "--small"]
runpy.run_module("tests.bench.card", run_name="__main__")
"""


@pytest.mark.slow  # 30 s
def test_a_card_is_measured_with_torch_transformers_peft_and_sentencepiece_alone() -> None:
    done = subprocess.run([sys.executable, "-c", _WITH_FEW], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
    assert not [row for row in rows if "broke" in row], done.stdout
    assert [row.split(",")[0] for row in rows[2:]] == [
        "a model was written", "weights from the disk to the device", "the old recipe", "ptuning_v2", "lora", "ptuning_v2",
        "peak memory", "decoding", "the same with 256", "first token of a prompt of 32",
        "of the next round of tools", "decoding", "the same with 256", "decoding", "the same with 256",
    ]  # fmt: skip
