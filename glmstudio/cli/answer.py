"""Every question of a file to base and tuned, as a table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from glmstudio.cli.terminal import command, json_flag, language, print_json, t
from glmstudio.units import duration


def add(commands: Any) -> None:
    """`answer`."""
    answer = command(commands, "answer", _answer)
    answer.add_argument("file", type=Path, metavar="FILE", help=t("cli.answer_file"))
    answer.add_argument("--model", default="demo", help=t("cli.model"))
    answer.add_argument("--adapter", help=t("cli.adapter"))
    answer.add_argument("--out", type=Path, required=True, metavar="OUT", help=t("cli.answer_out"))
    answer.add_argument("--tools", action="store_const", const=True, help=t("cli.answer_tools"))
    answer.add_argument("--max-tokens", type=int, default=512, metavar="N", help=t("cli.answer_limit"))
    json_flag(answer)


def _answer(options: argparse.Namespace) -> int:
    from glmstudio.knowledge.answer_table import check_target, write_table
    from glmstudio.knowledge.answering import Answering

    file, out = options.file.expanduser(), options.out.expanduser()
    check_target(out, file)
    limit = max(1, options.max_tokens)
    job = Answering.of(file, options.model, options.adapter or "", tools=options.tools, limit=limit)
    try:
        rows = job.run(_tell)
    except KeyboardInterrupt:
        print(f"\n{t('cli.answer_kept')}", file=sys.stderr)
        raise
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\n")
    write_table(out, rows)
    if options.json:
        print_json({"questions": len(rows), "answers": sum(len(job.parts) for _ in rows), "out": str(out)})
    else:
        print(t("cli.answered", count=len(rows), file=out))
    return 0


def _tell(look: Any) -> None:
    if not sys.stderr.isatty():
        return
    left = t("cli.answer_left", time=duration(language(), look.seconds_left)) if look.seconds_left else ""
    sys.stderr.write(f"\r{t('answers.going', done=look.done, total=look.total)}{left}\x1b[K")
    sys.stderr.flush()
