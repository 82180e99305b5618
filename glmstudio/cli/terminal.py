"""How commands speak: in the language of the terminal, as text or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Iterator
from typing import IO, Any, cast

from glmstudio.errors import StudioError
from glmstudio.files import whole_text
from glmstudio.words import say, terminal_language

language = terminal_language
# Also what turns the direction of a line round, so that it reads as something else, and its rarer ends.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class Plain:
    """An output stream that hands on text without control characters: a name from outside must not steer a terminal."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Print text; new lines, tabs and the return of a progress line stay. A file's name need not be text."""
        return self._stream.write(_CONTROL.sub("\ufffd", whole_text(text)))


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Both streams of a command as `Plain` ones."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast("Any", Plain(sys.stdout)), cast("Any", Plain(sys.stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def one_line(name: object) -> str:
    """A name in a list: one with a line break must not pass for two."""
    return re.sub(r"[\r\n\t]", "\ufffd", str(name))


def t(key: str, /, **values: Any) -> str:
    """A sentence in this language."""
    return say(language(), key, **values)


def print_json(value: Any) -> None:
    """A result for another program."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    print(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def complain(problem: StudioError) -> int:
    """Say what is wrong and what helps, on the error stream. Returns the exit status."""
    with plain_output():
        print(t("cli.error", what=problem.what(language())), file=sys.stderr)
        if fix := problem.fix(language()):
            print(f"\n{t('cli.hint', fix=fix)}", file=sys.stderr)
    return 1


def confirmed(question: str) -> bool:
    """Ask for a yes. Raises StudioError where nobody can be asked."""
    if not can_ask():
        raise StudioError("cli.needs_yes")
    try:
        return input(f"{question} {t('cli.ask')} ").strip().lower() in ("y", "yes", "是", "好")
    except EOFError:  # Ctrl+D is no yes
        print()
        return False


def can_ask() -> bool:
    """Whether somebody sits at this terminal."""
    return sys.stdin.isatty()


def command(parent: Any, name: str, run: Any, key: str = "", *, epilog: str | None = None) -> argparse.ArgumentParser:
    """A command with its help; `run(options)` returns its exit status."""
    text = t(key or f"cli.{name}")
    parser: argparse.ArgumentParser = parent.add_parser(
        name,
        help=text,
        description=text,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def json_flag(parser: argparse.ArgumentParser) -> None:
    """Every command that returns data has it."""
    parser.add_argument("--json", action="store_true", help=t("cli.json"))
