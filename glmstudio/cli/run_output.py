"""What the commands print of a run: that it began, how far it is, how it ended, and all of it for another program."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from typing import Any

from glmstudio.cli.terminal import complain, language, print_json, t


def after_start(run: Any, options: argparse.Namespace) -> int:
    """Say that it has begun, or follow it to its end; returns the exit status."""
    if not options.follow:
        if options.json:
            print_json({"name": run.name, "path": str(run.path)})
        elif run.read_state().state == "queued":
            print(t("cli.queued", name=run.name))
        else:
            print(t("cli.started", name=run.name, folder=run.path))
            _others(run)
        return 0
    if not options.json:
        _others(run)
    state = _follow(run, quiet=options.json)
    if options.json:
        print_json(run_json(run))
    elif state.problem:
        return complain(state.problem)
    return 0 if state.state in ("finished", "stopped") else 1


def _others(run: Any) -> None:
    """The commands for the other machines of a run."""
    from glmstudio.cluster.view import read_cluster

    view = read_cluster(run)
    for each in view.machines[1:] if view else ():
        print(t("cli.on_machine", number=each.number, command=each.command), flush=True)


def _follow(run: Any, *, quiet: bool) -> Any:
    """Show a run until it ends. Leaving with Ctrl-C leaves the run alone."""
    from glmstudio.rundir.record import RunFiles

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
            model = str(run.result) if run.is_whole_model else run.model
            key = "cli.chat_with_model" if run.is_whole_model else "cli.chat_with"
            print(t(key, model=shlex.quote(model), name=shlex.quote(run.name)))
            if (run.path / RunFiles.EXAM).exists():
                names = {"data": run.data, "model": run.model, "name": run.name}
                print(t("cli.score_with", **{name: shlex.quote(value) for name, value in names.items()}))
    return state


def _progress(state: Any) -> None:
    width = 30
    done = round(width * state.step / state.steps) if state.steps else 0
    loss = f"{state.loss:.4f}" if state.loss is not None else "–"
    left = time.strftime("%H:%M:%S", time.gmtime(state.seconds_left)) if state.seconds_left else "–"
    values = {"step": state.step, "steps": state.steps, "loss": loss, "left": left}
    line = f"[{'#' * done}{'.' * (width - done)}] {t('cli.progress', **values)}"
    print(f"\r{line}  " if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)


def _machines(run: Any) -> list[dict[str, Any]]:
    """Of a run of several machines, how it stands with each."""
    from glmstudio.cluster.view import read_cluster

    view = read_cluster(run)
    return [
        {
            "number": each.number,
            "address": each.address,
            "host": each.host,
            "processes": each.processes,
            "state": each.state,
            "problem": each.problem.what(language()) if each.problem else None,
            "command": each.command,
        }
        for each in (view.machines if view else ())
    ]


def run_json(run: Any) -> dict[str, Any]:
    """A run for another program."""
    from glmstudio.files import read_json
    from glmstudio.rundir.checkpoints import list_checkpoints
    from glmstudio.rundir.record import RunFiles
    from glmstudio.runs.manage import read_note

    state = run.read_state()
    return {
        "name": run.name,
        "state": state.state,
        "step": state.step,
        "steps": state.steps,
        "loss": state.loss,
        "validation_loss": state.validation_loss,
        "preset": run.record.preset,
        "model": run.model,
        "data": run.data,
        "device": run.device,
        "checkpoints": [each.step for each in list_checkpoints(run.path / RunFiles.CHECKPOINTS) if each.whole],
        "note": read_note(run),
        "records": read_json(run.path / RunFiles.RECORDS),
        "machines": _machines(run),
        "path": str(run.path),
        "result": str(run.result) if run.result else None,
        "problem": state.problem.what(language()) if state.problem else None,
    }
