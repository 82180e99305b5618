"""What a model learned, in the terminal: facts that it knows, tools that it calls."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from glmstudio.cli.chat import engine_flags, how_to_serve
from glmstudio.cli.terminal import command, json_flag, language, print_json, t
from glmstudio.errors import StudioError

_FIGURES = ("right_tool", "right_arguments", "no_call", "valid_calls")


def add(commands: Any) -> None:
    """`score`."""
    score = command(commands, "score", _score)
    score.add_argument("file", type=Path, help=t("cli.score_file"))
    score.add_argument("--model", default="demo", help=t("cli.model"))
    score.add_argument("--adapter", help=t("cli.adapter"))
    score.add_argument("--count", type=int, default=200, help=t("cli.score_count"))
    engine_flags(score)
    json_flag(score)


def _score(options: argparse.Namespace) -> int:
    from glmstudio.data.records import form_of

    form = form_of(options.file)
    if form in ("facts", "mixed") and options.engine != "studio":
        raise StudioError("cli.facts_engine")
    facts = _facts(options) if form in ("facts", "mixed") else None
    if facts is not None and options.json and form == "facts":
        print_json(facts)
        return 0
    return _calls(options, facts) if form != "facts" else 0


def _facts(options: argparse.Namespace) -> dict[str, Any] | None:
    """The score of the facts in the file, shown unless it is to be JSON; None where a mixed file holds none."""
    from glmstudio.knowledge.score_report import as_text
    from glmstudio.knowledge.scoring import Scoring

    try:
        scoring = Scoring.of(options.file, options.model, options.adapter or "", most=max(1, options.count))
    except StudioError as error:
        if error.key != "knowledge.no_facts":
            raise
        return None

    def tell(look: Any) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{t('ui.score.going', done=look.done, total=look.total)}  ")

    result = scoring.run(tell)
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    if not options.json:
        print(as_text(language(), result))
    return result.to_json(language())


def _calls(options: argparse.Namespace, facts: dict[str, Any] | None) -> int:
    """How well tools are called in the conversations of the file."""
    from glmstudio.chat.terminal_chat import own_server
    from glmstudio.chat.tool_score import score, summary

    def tell(done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{t('ui.score.going', done=done, total=total)}")

    with own_server(options.model, [options.adapter] if options.adapter else [], how_to_serve(options)) as served:
        result = score(options.file, served, count=max(1, options.count), tell=tell)
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    if options.json:
        print_json(result.to_json() if facts is None else facts | {"calls": result.to_json()})
        return 0
    width = max(len(t(f"ui.score.{figure}")) for figure in _FIGURES) + 2
    print(" " * width + "".join(f"{marks.model:>20}" for marks in result.marks))
    for figure in _FIGURES:
        shares = [getattr(marks, figure) for marks in result.marks]
        cells = [t("chat.score.share", right=right, of=of) if of else "–" for right, of in shares]
        print(f"{t(f'ui.score.{figure}'):{width}}" + "".join(f"{cell:>20}" for cell in cells))
    print(summary(language(), result))
    for change in result.changes:
        print(f"\n{t('ui.score.better' if change.better else 'ui.score.worse')}: {change.asked}")
        print(f"  {t('ui.score.due')}: {change.due}\n  {t('ui.chat.base')}: {change.before}")
        print(f"  {t('ui.score.tuned')}: {change.after}")
    return 0
