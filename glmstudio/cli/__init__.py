"""Every action of the studio as a command. The only room that prints; what it needs is imported when it is needed."""

from __future__ import annotations

import argparse
import contextlib
import os
import traceback
from collections.abc import Callable

from glmstudio.cli import answer, bench, chat, data, doctor, join, models, runs, score, setup, train
from glmstudio.cli.terminal import complain, language, plain_output, t
from glmstudio.errors import StudioError, refused
from glmstudio.files import write_text
from glmstudio.paths import make_home, paths
from glmstudio.unread import unread_files

__all__ = ["language", "main"]

_STUDIO_FLAGS = ("--port", "--no-browser", "--window")


def main(argv: list[str]) -> int:
    """Run one command, or the studio where none is named. Returns the exit status."""
    try:
        if not argv or argv[0].split("=")[0] in _STUDIO_FLAGS:
            from glmstudio.ui.shell.app import main as studio

            return studio(argv)
        with plain_output():
            return _command(argv)
    except StudioError as problem:
        return complain(problem)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe left; that is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at the exit does not complain again
        return 0
    except OSError as error:  # a full disk, a folder that is closed to us
        return complain(refused(error))
    except Exception:  # noqa: BLE001  the trace is kept in a file
        return complain(_broke())


def _command(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    with contextlib.suppress(OSError):  # whoever only reads needs none; whoever writes will say what is wrong
        make_home()
    run: Callable[[argparse.Namespace], int] = options.run
    status = run(options)
    for problem in unread_files():
        complain(problem)
    return status


def _broke() -> StudioError:
    """What nobody expected, in words; the trace goes into a file for whoever looks for the cause."""
    log = paths().state / "broke.log"
    with contextlib.suppress(OSError):
        write_text(log, traceback.format_exc())
    return StudioError("cli.broke", log=str(log))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="launcher.py", description=t("cli.about"), epilog=t("cli.epilog"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in (doctor, bench, models, data, train, join, runs, chat, score, answer, setup):
        family.add(commands)
    commands.add_parser("test", help=t("cli.test"), add_help=False)
    return parser
