"""A question to a child process that may load torch: this process never does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.paths import ROOT, child_environment


def ask(module: str, *arguments: str, broke: str) -> Any:
    """Run `python -m module arguments` to its end; returns the JSON value in its last line.

    Raises the StudioError that the child printed instead, or one of the key `broke` where it said nothing of use.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        told = json.loads(done.stdout.splitlines()[-1])
        problem = StudioError.from_json(told["problem"]) if "problem" in told else None
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise StudioError(broke, reason=done.stderr.strip()[-300:]) from error
    if problem:
        raise problem
    return told
