"""What a server loads before it answers: no library that only training or another adapter needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

_STARTS = """
import sys
from glmstudio.serve.__main__ import load, parser
service = load(parser().parse_args(["--model", "demo", "--device", "cpu", "--bits", "8"]))
print(sorted({"peft", "bitsandbytes", "deepspeed", "datasets", "pandas", "gradio", "glmstudio.train"} & set(sys.modules)))
print("transformers.trainer" in sys.modules)
"""


@pytest.mark.slow
def test_a_server_without_lora_loads_no_library_for_training() -> None:
    done = subprocess.run([sys.executable, "-c", _STARTS], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\nFalse\n"
