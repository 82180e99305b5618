"""DeepSpeed, which is not installed with the rest: whether it is there and loads beside this PyTorch.

state/deepspeed/loads.json has the versions with which it was seen to load.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

from glmstudio.config import support
from glmstudio.config.optional_packages import DEEPSPEED
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.jobs.json_child import ask


def installed() -> str | None:
    """Its version; None where it is not installed."""
    try:
        return importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError:
        return None


def check() -> None:
    """Raise StudioError, with the remedy, unless DeepSpeed is installed and loads beside this PyTorch."""
    support.refuse("deepspeed")
    version = installed()
    if version is None:
        raise StudioError("engines.no_deepspeed")
    seen = {"deepspeed": version, "torch": importlib.metadata.version("torch"), "python": sys.version}
    note = DEEPSPEED.job.folder / "loads.json"
    if read_table(note) != seen:
        ask("glmstudio.train.strategies.zero", broke="engines.deepspeed_broken")
        write_json(note, seen)


def search_path() -> str:
    """The PATH with this environment's own programs: DeepSpeed calls ninja by its name."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join([own, os.environ.get("PATH", os.defpath)])
