"""What is installed only where somebody wants it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from glmstudio.cli.terminal import command, t


def add(commands: Any) -> None:
    """`setup`."""
    setup = command(commands, "setup", _setup)
    what = setup.add_mutually_exclusive_group(required=True)
    what.add_argument("--with-deepspeed", action="store_true", help=t("cli.setup_deepspeed"))
    what.add_argument("--with-documents", action="store_true", help=t("cli.setup_documents"))


def _setup(options: argparse.Namespace) -> int:
    from glmstudio.config import support
    from glmstudio.config.deepspeed import check
    from glmstudio.config.optional_packages import DEEPSPEED, DOCUMENTS
    from glmstudio.setup.install import add as add_packages
    from glmstudio.setup.messages import Stop

    extra = DEEPSPEED if options.with_deepspeed else DOCUMENTS
    if extra is DEEPSPEED:
        support.refuse("deepspeed")
    try:
        add_packages(extra.requirements)
    except Stop as problem:
        print(problem, file=sys.stderr)
        return 1
    if extra is DEEPSPEED:
        check()
    print(t("cli.setup_done", name=extra.title))
    return 0
