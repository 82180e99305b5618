"""The models on this computer: list, verify, add, remove."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from glmstudio.cli.terminal import command, json_flag, language, print_json, t
from glmstudio.errors import StudioError


def add(commands: Any) -> None:
    """`models`; without an action it lists."""
    models = command(commands, "models", _models)
    json_flag(models)
    parts = models.add_subparsers(metavar="ACTION")
    json_flag(command(parts, "list", _models, "cli.models_list"))
    verify = command(parts, "verify", _verify, "cli.models_verify")
    verify.add_argument("model", metavar="NAME_OR_DIR")
    verify.add_argument("--full", action="store_true", help=t("cli.models_full"))
    json_flag(verify)
    added = command(parts, "add", _add, "cli.models_add")
    added.add_argument("folder", metavar="DIR")
    remove = command(parts, "remove", _remove, "cli.models_remove")
    remove.add_argument("name", metavar="NAME")


def _models(options: argparse.Namespace) -> int:
    from glmstudio.models import list_models

    models = list_models()
    if options.json:
        print_json([
            {
                "name": model.name,
                "path": str(model.path),
                "kind": model.kind,
                "size_bytes": model.size_bytes,
                "ready": model.ready,
                "problem": model.problem.what(language()) if model.problem else None,
            }
            for model in models
        ])  # fmt: skip
        return 0
    for model in models:
        state = t("cli.ready") if model.problem is None else model.problem.what(language())
        print(f"{model.name:20} {model.size_bytes / 1e6:10,.1f} MB  {model.path}  {state}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from glmstudio.models import find_model
    from glmstudio.models.verify import verify

    folder = find_model(options.model).path
    problems = verify(folder, full=options.full, tell=_progress if options.full and sys.stderr.isatty() else _silent)
    if options.json:
        print_json({"ok": not problems, "problems": [_problem(folder, problem) for problem in problems]})
    else:
        for problem in problems:
            print(f"{problem.what(language())} {problem.fix(language())}".strip())
        if not problems:
            print(t("cli.models_whole", folder=folder))
    return 1 if problems else 0


def _problem(folder: Path, problem: StudioError) -> dict[str, str]:
    """A problem for another program: the file's name within the folder ("" for the folder itself), and the reason."""
    file = Path(str(problem.values.get("file", folder)))
    return {"file": "" if file == folder else file.name, "reason": problem.what(language())}


def _progress(done: int, total: int) -> None:
    print(f"\r{100 * done // max(1, total):3d} %", end="\n" if done >= total else "", file=sys.stderr, flush=True)


def _silent(_done: int, _total: int) -> None:
    pass


def _add(options: argparse.Namespace) -> int:
    from glmstudio.models import add_folder

    model = add_folder(options.folder)
    print(t("cli.models_added", name=model.name, folder=model.path))
    return 0


def _remove(options: argparse.Namespace) -> int:
    from glmstudio.models import remove_folder

    remove_folder(options.name)
    print(t("cli.models_removed", name=options.name))
    return 0
