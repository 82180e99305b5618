"""Fine-tuning: start a run, or show its plan."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from glmstudio.cli.run_output import after_start
from glmstudio.cli.script import TRAINING, print_training, refuse_machines
from glmstudio.cli.terminal import command, complain, json_flag, language, print_json, t
from glmstudio.errors import StudioError
from glmstudio.units import duration, memory_bytes, size


def add(commands: Any) -> None:
    """`train`."""
    train = command(commands, "train", _train, epilog=_settings_help())
    train.add_argument("preset", metavar="PRESET", help=t("cli.preset"))
    train.add_argument("--data", type=Path, metavar="FILE", help=t("cli.train_data"))
    train.add_argument("--name", help=t("cli.name"))
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=t("cli.set"))
    train.add_argument("--plan", action="store_true", help=t("cli.plan"))
    train.add_argument("--follow", action="store_true", help=t("cli.follow"))
    cluster_flags(train)
    holding(train)
    json_flag(train)


def cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Other machines that take part."""
    parser.add_argument("--machines", metavar="LIST", help=t("cli.machines"))
    parser.add_argument("--port", default="29400", metavar="PORT", help=t("cli.machines_port"))
    parser.add_argument("--least", default="", metavar="NUMBER", help=t("cli.machines_least"))
    parser.add_argument("--join-seconds", default="600", metavar="SECONDS", help=t("cli.machines_wait"))
    parser.add_argument("--script", choices=TRAINING, help=t("cli.script"))
    parser.add_argument("--nodes", type=int, default=1, metavar="NUMBER", help=t("cli.script_nodes"))


def holding(parser: argparse.ArgumentParser) -> None:
    """What to do where the GPU is held."""
    parser.add_argument("--queue", action="store_true", help=t("cli.queue"))
    beside = parser.add_mutually_exclusive_group()
    beside.add_argument("--unload-chat", action="store_true", help=t("cli.unload_chat"))
    beside.add_argument("--beside-chat", action="store_true", help=t("cli.beside_chat"))


def make_room(options: argparse.Namespace) -> None:
    """Unload the chat where that was asked for."""
    if options.unload_chat:
        from glmstudio.chat.model_server import ModelServer

        ModelServer.stop()


def _settings_help() -> str:
    from glmstudio.config.presets import list_presets
    from glmstudio.config.settings import Settings, field_docs

    presets = [f"  {preset.name}: {preset.about(language())}" for preset in list_presets()]
    settings = [f"  {doc.name} ({doc.value}): {doc.help}" for doc in field_docs(Settings(), language())]
    return "\n".join([t("cli.presets"), *presets, "", t("cli.settings"), *settings])


def _train(options: argparse.Namespace) -> int:
    from glmstudio.cli.progress_bar import progress
    from glmstudio.config.presets import load_preset
    from glmstudio.doctor.preflight import preflight
    from glmstudio.planning.resolve import RunRequest
    from glmstudio.planning.training_data import reader
    from glmstudio.runs.start import start

    changes: dict[str, str] = {}
    for pair in options.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise StudioError("cli.bad_set", pair=pair)
        changes[key.strip()] = value.strip()
    refuse_machines(options)
    preset = load_preset(options.preset)
    request = RunRequest(preset, options.data, options.name, changes, _cluster(options))
    if options.script:
        return print_training(request, options)
    if options.plan:
        return _plan(request, as_json=options.json)
    preflight()
    make_room(options)
    with progress() as tell:
        run = start(request, wait=options.queue, beside_chat=options.beside_chat, read=reader(tell))
    return after_start(run, options)


def _cluster(options: argparse.Namespace) -> Any:
    """The machines that were named; None for this one alone."""
    if options.machines is None:
        return None
    from glmstudio.cluster.spec import make_cluster, split

    return make_cluster(
        split(options.machines), port=options.port, least=options.least, join_seconds=options.join_seconds
    )


def _plan(request: Any, *, as_json: bool) -> int:
    """Read the data, look at the machine, measure a few steps; nothing is started that stays."""
    from glmstudio.cli.progress_bar import progress
    from glmstudio.planning.probe import start_probe
    from glmstudio.planning.resolve import resolve
    from glmstudio.planning.training_data import reader
    from glmstudio.rundir.occupancy import run_on

    with progress() as tell:
        found: Any = resolve(request, reader(tell))
    if found.plan is None:
        raise found.problem
    if not found.problem and run_on(found.device) is None:
        start_probe(found.plan.settings, found.device, found.data.key)
        while found.plan.probe.state in ("absent", "running"):
            time.sleep(0.3)
            found = found.planned()
    plan, problem = found.plan, found.problem or found.plan.probe.problem
    if as_json:
        said = {"command": request.command(), "problem": problem.what(language()) if problem else None}
        print_json(plan.to_json() | said)
    else:
        for name, value in plan_rows(plan):
            print(f"{t(f'cli.plan_{name}')}: {value}")
        print(f"\n{request.command()}")
        _say_who_can_use_it(plan.settings.method, request)
        if problem:
            return complain(problem)
    return 1 if problem else 0


def _say_who_can_use_it(method: str, request: Any) -> None:
    """A prefix stays in the studio: say so before it is trained, and what else there is."""
    from glmstudio.config.presets import with_lora_beside

    lora = with_lora_beside(request.preset.name, request.preset.model)
    if method == "ptuning_v2" and lora is not None:
        print(f"\n{t('cli.plan_prefix', preset=lora.name)}")


def _steps(plan: Any) -> str:
    said = t("cli.plan_steps_text", steps=plan.settings.steps, epochs=plan.epochs, records=plan.learned_from)
    said += t("cli.plan_mixed_text", mixed=plan.mixed) if plan.mixed else ""
    fewer = plan.fewer_steps
    return f"{said}\n  {t('cli.plan_passes', steps=fewer, passes=plan.passes_of(fewer))}" if fewer else said


def plan_rows(plan: Any) -> list[tuple[str, str]]:
    """A plan as names and figures."""
    need = plan.need
    parts = [(name, getattr(need, name)) for name in need.__dataclass_fields__]
    said = ", ".join(f"{t(f'cli.need_{name}')} {memory_bytes(amount)}" for name, amount in parts if amount)
    rows = [
        ("device", plan.place.name or plan.place.device),
        ("memory", f"{memory_bytes(need.total)} ({said}); {t('cli.plan_free', free=memory_bytes(plan.place.free))}"),
        ("steps", _steps(plan)),
        ("at_once", t("cli.plan_at_once_text", tokens=plan.at_once)),
        ("disk", f"{size(plan.disk)}; {t('cli.plan_free', free=size(plan.disk_free))}"),
    ]
    if plan.held_back:
        said = t("cli.plan_held_back_text", count=plan.held_back)
        said += f"\n  {t('cli.plan_held_back_auto')}" if plan.auto_validation else ""
        rows.append(("held_back", said))
    if plan.sharing:
        values = {"n": plan.sharing.alike, "of": plan.sharing.looked_at, "gain": plan.sharing.gain}
        rows.append(("sharing", t("cli.plan_sharing_text", most=plan.sharing.most, **values)))
    if plan.twice:
        rows.append(("twice", str(plan.twice)))
    if plan.seconds is not None:
        rows.append(("time", duration(language(), plan.seconds)))
        rows.append(("speed", t("cli.plan_speed_text", speed=plan.probe.tokens_per_second)))
    return rows
