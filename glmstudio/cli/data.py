"""Training data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmstudio.cli.progress_bar import histogram, progress
from glmstudio.cli.terminal import command, json_flag, language, print_json, t
from glmstudio.errors import StudioError

if TYPE_CHECKING:
    from glmstudio.data.problems import Problem, ProblemTally
    from glmstudio.data.records import DataCheck
    from glmstudio.data.store import Store

_ALIKE = 10  # problems of one kind in a file: so many are listed one by one
_SHOWN_LINES = 20


def add(commands: Any) -> None:
    """`data`."""
    data = commands.add_parser("data", help=t("cli.data"), description=t("cli.data"))
    parts = data.add_subparsers(required=True, metavar="ACTION")
    check = command(parts, "check", _data_check, "cli.data_check")
    check.add_argument("file", metavar="FILE_OR_FOLDER")
    check.add_argument("--model", metavar="NAME_OR_DIR", help=t("cli.data_model"))
    check.add_argument("--max-length", type=int, metavar="N", help=t("cli.data_limit"))
    json_flag(check)
    tokens = command(parts, "tokens", _data_tokens, "cli.data_tokens")
    tokens.add_argument("file", metavar="FILE")
    tokens.add_argument("--model", required=True, metavar="DIR", help=t("cli.tokenizer"))
    json_flag(tokens)
    convert = command(parts, "convert", _data_convert, "cli.data_convert")
    convert.add_argument("format", choices=["toolalpaca"])
    convert.add_argument("source", metavar="IN")
    convert.add_argument("target", metavar="OUT")


def _data_check(options: argparse.Namespace) -> int:
    if options.model is None:
        if options.max_length is not None:
            raise StudioError("cli.limit_needs_model")
        check = _examined(options.file)
        return _report(options, check.records, check.tally, check)
    from glmstudio.data.problems import ProblemTally

    store = _prepared(Path(options.file), _model_folder(options.model), options.max_length)
    limit = options.max_length
    tally = ProblemTally.of(store.each_problem(limit))
    status = _report(options, store.records - tally.count, tally, store)
    if not options.json and len(store):
        print("\n".join(histogram(store.histogram(limit, bins=12), limit)))
    return status


def _examined(file: str) -> DataCheck:
    from glmstudio.data.records import check_file

    with progress() as tell:
        return check_file(file, tell=tell)


def _prepared(source: Path, model_folder: Path, limit: int | None) -> Store:
    from glmstudio.data.readers.cutting import PIECE
    from glmstudio.data.store import prepare

    with progress() as tell:
        return prepare(source, model_folder, piece=limit or PIECE, tell=tell)


def _report(options: argparse.Namespace, records: int, tally: ProblemTally, source: DataCheck | Store) -> int:
    if options.json:
        print_json({"format": source.form, "records": records, **_as_json(tally)})
    else:
        for line in _told(tally):
            print(line)
    for note in source.notes:  # beside the JSON, which only lists what keeps a training from starting
        print(f"{note.file}: {note.text(language())}", file=sys.stderr if options.json else sys.stdout)
    if not options.json:
        print(t("cli.checked", records=records, problems=tally.count))
        if tally.fixable:
            print(t("cli.mendable", count=tally.fixable))
    return 1 if tally.count or not records else 0


def _as_json(tally: ProblemTally) -> dict[str, Any]:
    """The problems that are kept, and how many more there are of which of them."""
    told = [problem.to_json(language()) for problem in tally.kept]
    last = {problem.kind: said for problem, said in zip(tally.kept, told, strict=True)}
    more = [{"file": kind[0], "like_line": last[kind]["line"], "count": n} for kind, n in tally.not_kept.items()]
    return {"problems": told} | ({"more": more} if more else {})


def _told(tally: ProblemTally) -> Iterator[str]:
    """The problems in their order; of many of one kind in a file the first few, and where the others are."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in tally.kept:
        alike = kinds.setdefault(problem.kind, [])
        alike.append(problem)
        if len(alike) <= _ALIKE:
            yield f"{problem.file}:{problem.line}: {problem.text(language())}"
    for (file, key), alike in kinds.items():
        if more := alike[_ALIKE:]:
            lines = ", ".join(str(each.line) for each in more[:_SHOWN_LINES])
            lines += ", …" if len(more) > _SHOWN_LINES else ""
            count = tally.counts[file, key] - _ALIKE
            said = t("cli.alike", count=count, lines=lines, what=more[0].text(language()))
            yield f"{file}:{more[0].line}: {said}"


def _model_folder(name_or_dir: str) -> Path:
    from glmstudio.models import find_model

    return Path(name_or_dir) if Path(name_or_dir).is_dir() else find_model(name_or_dir).path


def _data_tokens(options: argparse.Namespace) -> int:
    from glmstudio.data.protocol.prompt import training_example
    from glmstudio.data.protocol.tokenizer import Tokenizer
    from glmstudio.data.records import Problem, read_records

    tokenizer = Tokenizer(_model_folder(options.model))
    rows = []
    for record in read_records(options.file):
        if isinstance(record, Problem):
            print(f"{record.file}:{record.line}: {record.text(language())}", file=sys.stderr)
            continue
        example = training_example(tokenizer, record.messages)
        rows.append({"input_ids": example.input_ids, "labels": example.labels})
    if options.json:
        print_json(rows)
    else:
        for number, row in enumerate(rows, 1):
            print(t("cli.tokens", number=number, tokens=len(row["input_ids"])))
            shown = zip(row["input_ids"], row["labels"], strict=True)
            print(" ".join(f"[{tokenizer.name(i)}]" if label != -100 else tokenizer.name(i) for i, label in shown))
    return 0


def _data_convert(options: argparse.Namespace) -> int:
    from glmstudio.data.conversion import convert_toolalpaca

    conversion = convert_toolalpaca(options.source, options.target)
    for problem in conversion.dropped:
        print(f"{problem.file}:{problem.line}: {problem.text(language())}", file=sys.stderr)
    print(t("cli.converted", records=conversion.records, dropped=len(conversion.dropped), file=options.target))
    return 0
