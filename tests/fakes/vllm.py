"""A Python that has a vLLM of the tests' (`vllm_server.py`): found, asked for its version and started as a real one."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def python_with_vllm(folder: Path, version: str = "0.32.0", *, name: str = "vllm") -> Path:
    """The path of that Python; "" as `version` gives one that has none."""
    packages, program = folder / "site", folder / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    if not version:
        return program
    inner = packages / "vllm" / "entrypoints" / "openai"
    inner.mkdir(parents=True)
    for each in (inner, inner.parent, inner.parent.parent):
        (each / "__init__.py").touch()
    shutil.copyfile(Path(__file__).with_name("vllm_server.py"), inner / "api_server.py")
    about = packages / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "top_level.txt").write_text("vllm\n")
    started = folder / "bin" / "vllm"
    started.write_text(f"#!{program}\nprint('vllm')\n")
    started.chmod(0o755)
    return program
