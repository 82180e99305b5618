"""The table of facts on disk, shared by every open page, and the facts files that were saved of it.

state/facts.json                every row as it stands, unfinished ones too; written with each edit
data/facts/facts-<sum>.jsonl    the facts of one moment: never changed, so that a run keeps what it learned
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from glmstudio.data.formats.facts import Fact
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json, write_text
from glmstudio.knowledge.table.fact_table import Row, Table
from glmstudio.knowledge.table.row_faults import learned
from glmstudio.paths import paths
from glmstudio.rundir.run import list_runs

_KEPT_FILES = 5  # besides those that a run learned from
_lock = threading.RLock()
_known: dict[Path, tuple[tuple[int, int], Table, str]] = {}


def table() -> Table:
    """The table as it stands."""
    return _read()[0]


def saved_file() -> Path | None:
    """The facts file that was saved last; None where there is none."""
    name = _read()[1]
    file = _folder() / name
    return file if name and file.is_file() else None


def edit(change: Callable[[Table], Table]) -> Table:
    """Change the table; edits of several pages take turns. Raises StudioError, and changes nothing then."""
    with _lock:
        before, saved = _read()
        after = change(before)
        if after is not before:
            _write(after.checked(), saved)
        return after


def save() -> Path:
    """Write the facts of the table as a facts file, to learn from. Raises StudioError where there is none."""
    with _lock:
        facts = learned(table())
        if not facts:
            raise StudioError("knowledge.table_empty")
        file = _folder() / _file_name(table())
        write_text(file, facts_text(facts))
        _write(table(), file.name)
        _sweep(file)
        return file


def is_saved() -> bool:
    """Whether the facts of the table are those of the saved file."""
    now, name = _read()
    return bool(name) and bool(learned(now)) and name == _file_name(now)


def facts_text(facts: Sequence[Fact]) -> str:
    """Facts as the lines of a facts file."""
    return "".join(json.dumps(fact.to_json(), ensure_ascii=False) + "\n" for fact in facts)


@lru_cache(4)
def _file_name(now: Table) -> str:
    return f"facts-{hashlib.sha256(facts_text(learned(now)).encode()).hexdigest()[:8]}.jsonl"


def _folder() -> Path:
    return paths().data / "facts"


def _draft() -> Path:
    return paths().state / "facts.json"


def _read() -> tuple[Table, str]:
    file = _draft()
    try:
        about = file.stat()
        mark = about.st_mtime_ns, about.st_size
    except OSError:
        return Table(), ""
    with _lock:
        if (found := _known.get(file)) and found[0] == mark:
            return found[1:]
        told = read_table(file)
        given = told.get("rows")
        rows = [row for each in given if (row := Row.from_json(each))] if isinstance(given, list) else []
        once = {row.number: row for row in rows}
        following = max([*once, 0]) + 1
        name = told.get("saved")
        kept = Table(tuple(once.values()), following), Path(name).name if isinstance(name, str) else ""
        _known.clear()
        _known[file] = mark, *kept
        return kept


def _write(now: Table, saved: str) -> None:
    file = _draft()
    write_json(file, {"saved": saved, "rows": [row.to_json() for row in now.rows]})
    about = file.stat()
    _known.clear()
    _known[file] = (about.st_mtime_ns, about.st_size), now, saved


def _sweep(newest: Path) -> None:
    """Delete facts files that no run learned from, but for the newest ones."""
    used = {Path(str(run.settings.get("data"))) for run in list_runs()} | {newest}
    others = [file for file in _folder().glob("facts-*.jsonl") if file not in used]
    for file in sorted(others, key=lambda each: each.stat().st_mtime)[:-_KEPT_FILES]:
        file.unlink(missing_ok=True)
