"""The models: list, download, verify, repair, convert, export, add, remove; and pause or give up what is under way."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmstudio.cli.terminal import command, complain, confirmed, json_flag, language, one_line, print_json, t
from glmstudio.errors import StudioError

if TYPE_CHECKING:
    from glmstudio.models.inventory import InventoryItem
    from glmstudio.models.jobs import ModelJob

_WIDTH = 30


def add(commands: Any) -> None:
    """`models`; without an action it lists."""
    models = command(commands, "models", _list)
    json_flag(models)
    parts = models.add_subparsers(metavar="ACTION")
    json_flag(command(parts, "list", _list, "cli.models_list"))
    download = _named(parts, "download", _download)
    _source(download)
    download.add_argument("--to", metavar="DIR", default="", help=t("cli.models_to"))
    download.add_argument("--accept-licence", action="store_true", help=t("cli.models_accept"))
    verify = _named(parts, "verify", _verify, "NAME_OR_DIR")
    verify.add_argument("--full", action="store_true", help=t("cli.models_full"))
    json_flag(verify)
    repair = _named(parts, "repair", _repair, "NAME_OR_DIR")
    _source(repair)
    repair.add_argument("--as", dest="known_as", metavar="NAME", default="", help=t("cli.models_as"))
    convert = _named(parts, "convert", _convert, "NAME_OR_DIR")
    convert.add_argument("--dtype", choices=("float16", "bfloat16"), default="float16", help=t("cli.models_dtype"))
    convert.add_argument("--replace", action="store_true", help=t("cli.models_replace"))
    _background(convert)
    export = _named(parts, "export", _export, "NAME_OR_DIR")
    export.add_argument("--to", required=True, choices=("native", "gguf"), help=t("cli.models_export_to"))
    export.add_argument("--type", dest="kind", default="", metavar="TYPE", help=t("cli.export_type"))
    export.add_argument("out", metavar="OUT", type=Path, help=t("cli.export_out"))
    _named(parts, "pause", _pause)
    _named(parts, "cancel", _cancel)
    _named(parts, "add", _add, "DIR_OR_ID")
    remove = _named(parts, "remove", _remove)
    remove.add_argument("--yes", action="store_true", help=t("cli.models_yes"))


def _named(parts: Any, name: str, run: Any, metavar: str = "NAME") -> argparse.ArgumentParser:
    parser = command(parts, name, run, f"cli.models_{name}")
    parser.add_argument("model", metavar=metavar)
    return parser


def _source(parser: argparse.ArgumentParser) -> None:
    from glmstudio.models.catalogue import SOURCES
    from glmstudio.models.hub.hubs import CONNECTIONS

    parser.add_argument("--from", dest="source", choices=("auto", *SOURCES), default="auto", help=t("cli.models_from"))
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, metavar="N", help=t("cli.models_connections", n=CONNECTIONS)
    )
    _background(parser)


def _background(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--background", action="store_true", help=t("cli.models_background"))


def _list(options: argparse.Namespace) -> int:
    from glmstudio.models.inventory import inventory
    from glmstudio.units import size

    items = inventory()
    if options.json:
        print_json([_row(item) for item in items])
        return 0
    for item in items:
        row = _row(item)
        weight = size(row["size_bytes"]) if row["size_bytes"] else "–"
        place = one_line(item.folder) if item.model else ""
        print(f"{one_line(item.name):20} {weight:>9}  {t(f'models.state.{item.state}')}  {place}")
        if row["problem"]:
            print(f"{'':31} {row['problem']}")
    return 0


def _row(item: InventoryItem) -> dict[str, Any]:
    return {
        "name": item.name,
        "path": str(item.folder),
        "kind": item.model.kind if item.model else "catalogue",
        "size_bytes": item.model.size_bytes if item.model else item.entry.size_bytes if item.entry else 0,
        "ready": item.state == "ready",
        "state": item.state,
        "problem": item.problem.what(language()) if item.problem else None,
    }


def _download(options: argparse.Namespace) -> int:
    from glmstudio.models.actions import start_download
    from glmstudio.models.catalogue import entry, licence_accepted

    model, accept = entry(options.model), options.accept_licence
    if not accept and not licence_accepted(model) and sys.stdin.isatty():
        accept = confirmed(t("cli.models_licence", title=model.title, link=model.licence))
    folder = start_download(
        options.model, source=options.source, connections=options.connections, to=options.to, accept=accept
    )
    return _follow(folder, options, t("cli.models_downloaded", name=options.model, folder=folder))


def _verify(options: argparse.Namespace) -> int:
    from glmstudio.models import find_model
    from glmstudio.models.verify import verify

    folder = find_model(options.model).path
    problems = verify(folder, full=options.full, tell=_percent if options.full and sys.stderr.isatty() else _silent)
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


def _percent(done: int, total: int) -> None:
    print(f"\r{100 * done // max(1, total):3d} %", end="\n" if done >= total else "", file=sys.stderr, flush=True)


def _silent(_done: int, _total: int) -> None:
    pass


def _repair(options: argparse.Namespace) -> int:
    from glmstudio.models.actions import name_and_folder, start_repair
    from glmstudio.rundir.occupancy import refuse_in_use

    refuse_in_use(*name_and_folder(options.model))
    folder = start_repair(
        options.model, source=options.source, connections=options.connections, known_as=options.known_as
    )
    return _follow(folder, options, t("cli.models_whole", folder=folder))


def _convert(options: argparse.Namespace) -> int:
    from glmstudio.models.actions import name_and_folder, start_convert
    from glmstudio.rundir.occupancy import refuse_in_use

    if options.replace:
        refuse_in_use(*name_and_folder(options.model))
    folder = start_convert(options.model, dtype=options.dtype, drop_originals=options.replace)
    return _follow(folder, options, t("cli.models_converted", folder=folder))


def _export(options: argparse.Namespace) -> int:
    from glmstudio.models.exports.model_export import export_model

    print(t("cli.exported", folder=export_model(options.model, options.to, options.out, kind=options.kind)))
    return 0


def _follow(folder: Path, options: argparse.Namespace, done: str) -> int:
    """Show a job until it ends. Ctrl-C pauses it, as whoever started it in a terminal expects."""
    from glmstudio.models.jobs import pause, read

    name = shlex.quote(options.model)
    if options.background:
        print(t("cli.models_started", name=name))
        return 0
    try:
        while (job := read(folder)) and job.live:
            _show(job)
            time.sleep(0.3)
    except KeyboardInterrupt:
        pause(folder)
        print(f"\n{_stopped(name, read(folder))}", file=sys.stderr)
        return 130
    if job and job.state == "done":
        _show(job)
        print(f"\n{done}" if sys.stderr.isatty() else done)
        return 0
    if job and job.state == "paused":
        print(_stopped(name, job), file=sys.stderr)
        return 130
    return complain(job.problem if job and job.problem else StudioError("models.no_job", model=options.model))


def _stopped(name: str, job: ModelJob | None) -> str:
    return t("cli.models_paused" if job and job.resumable else "cli.models_stopped", name=name)


def _show(job: ModelJob) -> None:
    from glmstudio.units import duration, size

    if not sys.stderr.isatty() or not job.total:
        return
    share = job.done / job.total
    speed = f"{size(job.bytes_per_second)}/s" if job.bytes_per_second else ""
    left = duration(language(), job.seconds_left) if job.seconds_left and job.live else ""
    file = next((name for name, done, whole in job.files if 0 < done < whole), "")
    bar = "#" * round(_WIDTH * share) + "." * (_WIDTH - round(_WIDTH * share))
    line = f"[{bar}] {100 * share:5.1f} %  {size(job.done)} / {size(job.total)}  {speed}  {left}  {file}"
    print(f"\r{line[:118]:118}", end="", file=sys.stderr, flush=True)


def _pause(options: argparse.Namespace) -> int:
    from glmstudio.models.actions import pause
    from glmstudio.models.jobs import read

    print(_stopped(shlex.quote(options.model), read(pause(options.model))))
    return 0


def _cancel(options: argparse.Namespace) -> int:
    from glmstudio.models.actions import cancel
    from glmstudio.units import size

    print(t("cli.models_cancelled", name=options.model, freed=size(cancel(options.model))))
    return 0


def _add(options: argparse.Namespace) -> int:
    from glmstudio.models import add_folder
    from glmstudio.models.actions import names_id, typed
    from glmstudio.models.hub.id_lookup import add_from_hub

    told = typed(options.model)
    if names_id(told):
        print(t("cli.models_added_id", name=add_from_hub(told).name))
        return 0
    model = add_folder(told)
    print(t("cli.models_added", name=model.name, folder=model.path))
    if model.unverified:
        print(t("cli.models_verify_next", name=shlex.quote(model.name)))
    return 0


def _remove(options: argparse.Namespace) -> int:
    from glmstudio.models.actions import delete
    from glmstudio.models.library import find_model, owned, remove_folder
    from glmstudio.paths import paths
    from glmstudio.rundir.occupancy import refuse_in_use
    from glmstudio.units import size

    folder = paths().models / options.model
    if not owned(folder) or not folder.is_dir():
        remove_folder(options.model)
        print(t("cli.models_removed", name=options.model))
        return 0
    model = find_model(options.model)
    refuse_in_use(model.name, model.path)
    question = t("cli.models_delete", name=model.name, size=size(model.size_bytes), folder=model.path)
    if not options.yes and not confirmed(question):
        return 1
    print(t("cli.models_deleted", name=model.name, freed=size(delete(model.name))))
    return 0
