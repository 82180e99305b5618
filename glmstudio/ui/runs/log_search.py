"""Searching the log of a run: all of it, read once and then read on, so that a tick costs only what is new."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from functools import partial

from glmstudio.jsonl import bytes_from
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run
from glmstudio.ui.state.runwatch import LOG_LINES, shown_line

LONGEST_NEEDLE = 200
_KEPT = 8  # searches that are read on


@dataclass
class LogSearch:
    """The lines with `needle` so far: how many, and the last of them with their numbers from 1."""

    needle: str
    count: int = 0
    found: deque[tuple[int, str]] = field(default_factory=partial(deque, maxlen=LOG_LINES))
    read: int = 0  # lines
    offset: int = 0  # bytes

    def advance(self, run: Run) -> None:
        """Read on to the last whole line."""
        new = bytes_from(run.path / RunFiles.LOG, self.offset)
        whole = new[: new.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.split(b"\n")[:-1]:
            self.read += 1
            shown = shown_line(line.decode("utf-8", errors="replace"))
            if self.needle in shown.casefold():
                self.count += 1
                self.found.append((self.read, shown))


_lock = threading.Lock()
_searches: dict[tuple[str, str], LogSearch] = {}


def search_log(run: Run, needle: str) -> LogSearch:
    """The lines of the run's log that hold `needle`, in any case, up to now."""
    key = (str(run.path), needle.strip()[:LONGEST_NEEDLE].casefold())
    with _lock:
        search = _searches.pop(key, None) or LogSearch(key[1])
        _searches[key] = search
        while len(_searches) > _KEPT:
            del _searches[next(iter(_searches))]
        search.advance(run)
        return search
