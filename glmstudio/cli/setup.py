"""What is installed only where somebody wants it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from glmstudio.cli.terminal import command, t


def add(commands: Any) -> None:
    """`setup`."""
    setup = command(commands, "setup", _setup)
    setup.add_argument("--with-deepspeed", action="store_true", required=True, help=t("cli.setup_deepspeed"))


def _setup(_: argparse.Namespace) -> int:
    from glmstudio.runs.deepspeed import REQUIREMENTS, check
    from glmstudio.setup.install import add as add_packages
    from glmstudio.setup.words import Stop

    try:
        add_packages(REQUIREMENTS)
    except Stop as problem:
        print(problem, file=sys.stderr)
        return 1
    check()
    print(t("cli.setup_done"))
    return 0
