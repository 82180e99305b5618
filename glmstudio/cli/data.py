"""Training data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from glmstudio.cli.terminal import command, json_flag, language, print_json, t


def add(commands: Any) -> None:
    """`data`."""
    data = commands.add_parser("data", help=t("cli.data"), description=t("cli.data"))
    parts = data.add_subparsers(required=True, metavar="ACTION")
    check = command(parts, "check", _data_check, "cli.data_check")
    check.add_argument("file", metavar="FILE")
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
    from glmstudio.data.records import check_file

    check = check_file(options.file)
    if options.json:
        print_json({"records": check.records, "problems": [problem.to_json(language()) for problem in check.problems]})
    else:
        for problem in check.problems:
            print(f"{problem.file}:{problem.line}: {problem.text(language())}")
        print(t("cli.checked", records=check.records, problems=len(check.problems)))
    return 1 if check.problems or not check.records else 0


def _data_tokens(options: argparse.Namespace) -> int:
    from glmstudio.data.prompt import training_example
    from glmstudio.data.records import Problem, read_records
    from glmstudio.data.tokenizer import Tokenizer
    from glmstudio.models import find_model

    known = Path(options.model).is_dir()
    tokenizer = Tokenizer(options.model if known else find_model(options.model).path)
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
    from glmstudio.data.toolalpaca import convert_toolalpaca

    conversion = convert_toolalpaca(options.source, options.target)
    for problem in conversion.dropped:
        print(f"{problem.file}:{problem.line}: {problem.text(language())}", file=sys.stderr)
    print(t("cli.converted", records=conversion.records, dropped=len(conversion.dropped), file=options.target))
    return 0
