"""Every action of the studio as a command. The only room that prints; what it needs is imported when it is needed."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable

from glmstudio.cli import bench, chat, data, doctor, join, models, runs, score, setup, train
from glmstudio.cli.terminal import complain, language, t
from glmstudio.errors import StudioError
from glmstudio.paths import make_home

__all__ = ["language", "main"]

_STUDIO_FLAGS = ("--port", "--no-browser", "--window")


def main(argv: list[str]) -> int:
    """Run one command, or the studio where none is named. Returns the exit status."""
    try:
        if not argv or argv[0].split("=")[0] in _STUDIO_FLAGS:
            from glmstudio.ui.app import main as studio

            return studio(argv)
        options = _parser().parse_args(argv)
        with contextlib.suppress(OSError):  # whoever only reads needs none; whoever writes will say what is wrong
            make_home()
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except StudioError as problem:
        return complain(problem)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe left; that is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at the exit does not complain again
        return 0
    except OSError as error:  # a full disk, a folder that is closed to us
        return complain(StudioError("cli.system", file=error.filename or "", reason=error.strerror or str(error)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="launcher.py", description=t("cli.about"), epilog=t("cli.epilog"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in (doctor, bench, models, data, train, join, runs, chat, score, setup):
        family.add(commands)
    commands.add_parser("test", help=t("cli.test"), add_help=False)
    return parser
