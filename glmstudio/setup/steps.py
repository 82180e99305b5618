"""One line a step: what is being installed, how far it is, how long it has taken.

On the error stream, so that what a command prints can be piped on from the very first start.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator

from glmstudio.setup.messages import say

_SILENCE = 10.0  # seconds between lines where a line cannot be rewritten (a log, a pipe)


@contextlib.contextmanager
def step(position: str, title: str, part: Callable[[], str] = str) -> Iterator[None]:
    """Show a step while its work is done; `part()` is asked again and again how far that is."""
    shown = _Step(position, title, part)
    try:
        yield
    except BaseException:
        shown.end(well=False)
        raise
    shown.end(well=True)


class _Step:
    def __init__(self, position: str, title: str, part: Callable[[], str] = str) -> None:
        self._position = f"[{position}]"
        self._title = f"[{position}] {title}"
        self._part = part
        self._live = sys.stderr.isatty()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

        self._begun = time.monotonic()
        self._write(self._title, final=not self._live)
        self._ticker.start()

    def end(self, *, well: bool) -> None:
        self._ended.set()
        self._ticker.join()
        if well:
            self._write(self._line(say("done")), final=True)
        elif self._live:
            sys.stderr.write("\n")

    def _tick(self) -> None:
        shown = ""
        while not self._ended.wait(0.2 if self._live else _SILENCE):
            part = self._part()
            if self._live or part != shown:
                self._write(self._line(part), final=not self._live)
            shown = part

    def _line(self, part: str) -> str:
        spent = clock(time.monotonic() - self._begun)
        # Where lines pile up, the title stands above already.
        title = self._title if self._live else self._position
        return say("progress" if part else "begun", title=title, part=part, time=spent)

    def _write(self, line: str, *, final: bool) -> None:
        if self._live:
            line = "\r" + _fitted(line, shutil.get_terminal_size().columns - 1) + "\x1b[K"
        sys.stderr.write(line + ("\n" if final else ""))
        sys.stderr.flush()


def clock(seconds: float) -> str:
    """Seconds as 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _fitted(line: str, columns: int) -> str:
    """The line cut to a terminal's width, in which a Chinese character takes two columns."""
    used = 0
    for position, character in enumerate(line):
        used += 2 if unicodedata.east_asian_width(character) in "FW" else 1
        if used > columns:
            return line[:position]
    return line
