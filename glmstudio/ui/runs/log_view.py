"""The log of a run: errors first, a search over all of it, and the file to take along."""

from __future__ import annotations

from glmstudio.rundir.run import Run
from glmstudio.ui.framework.markup import Html, fold, tag
from glmstudio.ui.runs.downloads.run_link import run_link
from glmstudio.ui.runs.log_search import LONGEST_NEEDLE, search_log
from glmstudio.ui.state.runwatch import Reading, RunSnapshot
from glmstudio.words import say


def render_log(lang: str, known: RunSnapshot, reading: Reading, find: str) -> Html:
    """The end of the log, or the lines that hold `find`; nothing where nothing was printed."""
    tail = reading.log_tail()
    if not tail.strip():
        return Html("")
    body = tag(
        '{errors}<div class="gs-row gs-logbar">{search}{file}</div>{lines}',
        errors=_errors(lang, reading),
        search=_search(lang, find),
        file=run_link(lang, known.name, "train.log", say(lang, "ui.log.file")),
        lines=_found(lang, known.run, find) if find.strip() else _lines(tail, scrolls=True),
    )
    return fold(say(lang, "ui.run.log"), body, key="log", unfolded=known.state.state == "failed")


def _errors(lang: str, reading: Reading) -> Html:
    if not reading.pinned:
        return Html("")
    return tag(
        '<p class="gs-small">{title}</p><pre class="gs-log gs-pinned" tabindex="0">{text}</pre>',
        title=_count(lang, "errors", reading.errors, len(reading.pinned)),
        text="\n".join(reading.pinned),
    )


def _search(lang: str, find: str) -> Html:
    return tag(
        '<div data-scope data-live="log-find" class="gs-logfind"><input type="search" data-field="find" value="{find}"'
        ' maxlength="{most}" aria-label="{label}" placeholder="{label}"></div>',
        find=find,
        most=LONGEST_NEEDLE,
        label=say(lang, "ui.log.find"),
    )


def _found(lang: str, run: Run, find: str) -> Html:
    search = search_log(run, find)
    text = "\n".join(f"{number}: {line}" for number, line in search.found)
    told = _count(lang, "found", search.count, len(search.found)) if search.count else say(lang, "ui.log.none")
    return tag('<p class="gs-small" role="status">{told}</p>{lines}', told=told, lines=_lines(text) if text else "")


def _count(lang: str, what: str, count: int, shown: int) -> str:
    return say(lang, f"ui.log.{what}" if shown == count else f"ui.log.{what}_last", n=count, shown=shown)


def _lines(text: str, *, scrolls: bool = False) -> Html:
    mark = Html(" data-scroll") if scrolls else ""
    return tag('<pre class="gs-log"{mark} tabindex="0">{text}</pre>', mark=mark, text=text)
