"""Fine-tuning runs: start, follow, list, show, stop."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from glmstudio.cli.terminal import command, complain, json_flag, language, print_json, t
from glmstudio.errors import StudioError


def add(commands: Any) -> None:
    """`train` and `runs`."""
    train = command(commands, "train", _train, epilog=_settings_help())
    train.add_argument("preset", metavar="PRESET", help=t("cli.preset"))
    train.add_argument("--data", type=Path, metavar="FILE", help=t("cli.train_data"))
    train.add_argument("--name", help=t("cli.name"))
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=t("cli.set"))
    train.add_argument("--follow", action="store_true", help=t("cli.follow"))
    json_flag(train)
    runs = commands.add_parser("runs", help=t("cli.runs"), description=t("cli.runs"))
    parts = runs.add_subparsers(required=True, metavar="ACTION")
    json_flag(command(parts, "list", _runs_list, "cli.runs_list"))
    show = command(parts, "show", _runs_show, "cli.runs_show")
    show.add_argument("name", metavar="NAME")
    json_flag(show)
    stop = command(parts, "stop", _runs_stop, "cli.runs_stop")
    stop.add_argument("name", metavar="NAME")
    stop.add_argument("--now", action="store_true", help=t("cli.now"))


def _settings_help() -> str:
    from glmstudio.runs.presets import Settings, field_docs, list_presets

    presets = [f"  {preset.name}: {preset.about(language())}" for preset in list_presets()]
    settings = [f"  {doc.name} ({doc.value}): {doc.help}" for doc in field_docs(Settings(), language())]
    return "\n".join([t("cli.presets"), *presets, "", t("cli.settings"), *settings])


def _train(options: argparse.Namespace) -> int:
    from glmstudio.doctor.preflight import preflight
    from glmstudio.runs.presets import load_preset
    from glmstudio.runs.start import start_run

    changes = {}
    for pair in options.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise StudioError("cli.bad_set", pair=pair)
        changes[key.strip()] = value.strip()
    preflight()
    run = start_run(load_preset(options.preset), data=options.data, name=options.name, changes=changes)
    if not options.follow:
        if options.json:
            print_json({"name": run.name, "path": str(run.path)})
        else:
            print(t("cli.started", name=run.name, folder=run.path))
        return 0
    state = _follow(run, quiet=options.json)
    if options.json:
        print_json(_run_json(run))
    elif state.problem:
        return complain(state.problem)
    return 0 if state.state in ("finished", "stopped") else 1


def _follow(run: Any, *, quiet: bool) -> Any:
    """Show a run until it ends. Leaving with Ctrl-C leaves the run alone."""
    shown = -1
    try:
        while (state := run.read_state()).live:
            if state.step != shown and not quiet:
                _progress(state)
                shown = state.step
            time.sleep(0.5)
    except KeyboardInterrupt:
        print(f"\n{t('cli.left', name=shlex.quote(run.name))}")
        raise
    if not quiet:
        _progress(state)
        print(f"\n{t('cli.ended', name=run.name, state=t(f'runs.state.{state.state}'))}")
        if run.result and state.state == "finished":
            print(t("cli.chat_with", model=shlex.quote(run.model), name=shlex.quote(run.name)))
    return state


def _progress(state: Any) -> None:
    width = 30
    done = round(width * state.step / state.steps) if state.steps else 0
    loss = f"{state.loss:.4f}" if state.loss is not None else "–"
    left = time.strftime("%H:%M:%S", time.gmtime(state.seconds_left)) if state.seconds_left else "–"
    values = {"step": state.step, "steps": state.steps, "loss": loss, "left": left}
    line = f"[{'#' * done}{'.' * (width - done)}] {t('cli.progress', **values)}"
    print(f"\r{line}  " if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)


def _runs_list(options: argparse.Namespace) -> int:
    from glmstudio.runs.run import list_runs

    rows = [_run_json(run) for run in list_runs()]
    if options.json:
        print_json([{key: row[key] for key in ("name", "state", "step", "steps")} for row in rows])
    elif not rows:
        print(t("cli.no_runs"))
    else:
        for row in rows:
            loss = f"{row['loss']:.4f}" if row["loss"] is not None else "–"
            print(f"{row['name']:32} {t('runs.state.' + row['state']):10} {row['step']}/{row['steps']}  {loss}")
    return 0


def _runs_show(options: argparse.Namespace) -> int:
    from glmstudio.runs.run import find_run

    run = find_run(options.name)
    row = _run_json(run)
    if options.json:
        print_json(row)
        return 0
    row["state"] = t(f"runs.state.{row['state']}")
    row["loss"] = None if row["loss"] is None else f"{row['loss']:.4f}"
    counts = row.pop("records")
    if isinstance(counts, dict) and {"used", "cut", "dropped"} <= counts.keys():
        row["records"] = t("cli.run_counts", **counts)
    for key, value in row.items():
        if value not in (None, ""):
            print(f"{t(f'cli.run_{key}')}: {value}")
    print(f"\n{run.log()[0][-4000:]}")
    return 0


def _runs_stop(options: argparse.Namespace) -> int:
    from glmstudio.runs.run import find_run
    from glmstudio.runs.stop import stop_run

    for stage in stop_run(find_run(options.name), now=options.now):
        print(stage.text(language()))
    return 0


def _run_json(run: Any) -> dict[str, Any]:
    from glmstudio.files import read_json

    state = run.read_state()
    return {
        "name": run.name,
        "state": state.state,
        "step": state.step,
        "steps": state.steps,
        "loss": state.loss,
        "preset": run.preset,
        "model": run.model,
        "data": run.data,
        "records": read_json(run.path / "records.json"),
        "path": str(run.path),
        "result": str(run.result) if run.result else None,
        "problem": state.problem.what(language()) if state.problem else None,
    }
