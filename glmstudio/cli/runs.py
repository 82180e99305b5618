"""Fine-tuning runs: list, show, stop, resume, export, publish, metrics, report, rename, delete, and the queue."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from glmstudio.cli.run_output import after_start, run_json
from glmstudio.cli.terminal import command, confirmed, json_flag, language, one_line, print_json, t
from glmstudio.cli.train import holding, make_room
from glmstudio.units import size


def add(commands: Any) -> None:
    """`runs`."""
    runs = commands.add_parser("runs", help=t("cli.runs"), description=t("cli.runs"))
    parts = runs.add_subparsers(required=True, metavar="ACTION")
    json_flag(command(parts, "list", _runs_list, "cli.runs_list"))
    show = command(parts, "show", _runs_show, "cli.runs_show")
    show.add_argument("name", metavar="NAME")
    json_flag(show)
    stop = _named(parts, "stop", _stop)
    stop.add_argument("--now", action="store_true", help=t("cli.now"))
    resume = _named(parts, "resume", _resume)
    resume.add_argument("--step", type=int, metavar="STEP", help=t("cli.resume_step"))
    resume.add_argument("--device", default="", metavar="CARDS", help=t("cli.resume_device"))
    resume.add_argument("--processes", type=int, default=0, metavar="NUMBER", help=t("cli.resume_processes"))
    resume.add_argument("--follow", action="store_true", help=t("cli.follow"))
    holding(resume)
    json_flag(resume)
    export = _named(parts, "export", _export)
    forms = ("native", "gguf", "peft", "gguf-lora", "official", "merged", "bundle")
    export.add_argument("--to", required=True, choices=forms, help=t("cli.export_to"))
    export.add_argument("--type", dest="kind", default="", metavar="TYPE", help=t("cli.export_type"))
    export.add_argument("--step", type=int, metavar="STEP", help=t("cli.export_step"))
    export.add_argument("out", metavar="OUT", type=Path, help=t("cli.export_out"))
    _publish_flags(_named(parts, "publish", _publish), forms[:4])
    metrics = _named(parts, "metrics", _metrics)
    metrics.add_argument("--to", required=True, choices=("csv", "tensorboard"), help=t("cli.metrics_to"))
    metrics.add_argument("out", metavar="OUT", type=Path, help=t("cli.metrics_out"))
    report = _named(parts, "report", _report)
    report.add_argument("--to", default="markdown", choices=("markdown", "html"), help=t("cli.report_to"))
    report.add_argument("out", metavar="OUT", type=Path, help=t("cli.report_out"))
    rename = _named(parts, "rename", _rename)
    rename.add_argument("new", metavar="NEW_NAME")
    note = _named(parts, "note", _note)
    note.add_argument("text", metavar="TEXT", nargs="?", help=t("cli.note_text"))
    delete = _named(parts, "delete", _delete)
    delete.add_argument("--yes", action="store_true", help=t("cli.models_yes"))
    queue = command(parts, "queue", _queue, "cli.runs_queue")
    queue.add_argument("name", metavar="NAME", nargs="?", help=t("cli.queue_name"))
    queue.add_argument("--by", type=int, default=0, metavar="PLACES", help=t("cli.queue_by"))
    json_flag(queue)


def _publish_flags(publish: argparse.ArgumentParser, forms: tuple[str, ...]) -> None:
    publish.add_argument("--to", required=True, choices=("huggingface", "modelscope"), help=t("cli.publish_to"))
    publish.add_argument("--repo", required=True, metavar="OWNER/NAME", help=t("cli.publish_repo"))
    publish.add_argument("--as", dest="form", default="", choices=("", *forms), help=t("cli.publish_as"))
    publish.add_argument("--type", dest="kind", default="", metavar="TYPE", help=t("cli.export_type"))
    publish.add_argument("--step", type=int, metavar="STEP", help=t("cli.export_step"))
    publish.add_argument("--public", action="store_true", help=t("cli.publish_public"))
    publish.add_argument("--yes", action="store_true", help=t("cli.models_yes"))


def _named(parts: Any, name: str, run: Any) -> argparse.ArgumentParser:
    parser = command(parts, name, run, f"cli.runs_{name}")
    parser.add_argument("name", metavar="NAME")
    return parser


def _runs_list(options: argparse.Namespace) -> int:
    from glmstudio.rundir.run import list_runs

    rows = [run_json(run) for run in list_runs()]
    if options.json:
        print_json([{key: row[key] for key in ("name", "state", "step", "steps")} for row in rows])
    elif not rows:
        print(t("cli.no_runs"))
    else:
        for row in rows:
            loss = f"{row['loss']:.4f}" if row["loss"] is not None else "–"
            print(
                f"{one_line(row['name']):32} {t('runs.state.' + row['state']):10} {row['step']}/{row['steps']}  {loss}"
            )
    return 0


def _runs_show(options: argparse.Namespace) -> int:
    from glmstudio.rundir.run import find_run

    run = find_run(options.name)
    row = run_json(run)
    if options.json:
        print_json(row)
        return 0
    row["state"] = t(f"runs.state.{row['state']}")
    for name in ("loss", "validation_loss"):
        row[name] = None if row[name] is None else f"{row[name]:.4f}"
    row["checkpoints"] = ", ".join(map(str, row["checkpoints"]))
    machines = row.pop("machines")
    for each in machines:
        state = f"{t('cluster.state.' + each['state'])}. {each['problem'] or ''}".strip()
        print(f"{t('cli.run_machines')} {each['number']} {each['address']}: {state}")
    counts = row.pop("records")
    if isinstance(counts, dict) and {"used", "cut", "dropped"} <= counts.keys():
        row["records"] = t("cli.run_counts", **{"trained": counts["used"], "validation": 0} | counts)
    for key, value in row.items():
        if value not in (None, "", []):
            print(f"{t(f'cli.run_{key}')}: {value}")
    print(f"\n{run.log()[0][-4000:]}")
    return 0


def _stop(options: argparse.Namespace) -> int:
    from glmstudio.rundir.run import find_run
    from glmstudio.runs.stop import stop_run

    for stage in stop_run(find_run(options.name), now=options.now):
        print(stage.text(language()))
    return 0


def _resume(options: argparse.Namespace) -> int:
    from glmstudio.doctor.preflight import preflight
    from glmstudio.rundir.run import find_run
    from glmstudio.runs.resume import DeviceChoice, resume_run

    run = find_run(options.name)
    preflight()
    make_room(options)
    cards = DeviceChoice(options.device or "auto", options.processes) if options.device or options.processes else None
    gone_on = resume_run(run, step=options.step, cards=cards, wait=options.queue, beside_chat=options.beside_chat)
    return after_start(gone_on, options)


def _export(options: argparse.Namespace) -> int:
    from glmstudio.rundir.run import find_run
    from glmstudio.runs.export import export_run

    folder = export_run(find_run(options.name), options.to, options.out, step=options.step, kind=options.kind)
    print(t("cli.exported", folder=folder))
    return 0


def _publish(options: argparse.Namespace) -> int:
    from glmstudio.models.hub.hubs import TITLES
    from glmstudio.rundir.run import find_run
    from glmstudio.runs.publishing.publish_run import Publication, checked, publish_run

    run = find_run(options.name)
    wanted = Publication(options.to, options.repo, options.form, not options.public, options.kind, options.step)
    asked = checked(run, wanted)
    values = {"name": run.name, "form": asked.form, "hub": TITLES[asked.hub], "repo": asked.repo}
    question = t(f"cli.publish_confirm_{'private' if asked.private else 'public'}", **values)
    if not options.yes and not confirmed(question):
        return 1
    print(t("cli.published", address=publish_run(run, asked)))
    return 0


def _metrics(options: argparse.Namespace) -> int:
    from glmstudio.rundir.run import find_run
    from glmstudio.runs.metrics_export import export_metrics

    target = export_metrics(find_run(options.name), options.to, options.out)
    print(t("cli.exported", folder=target))
    return 0


def _report(options: argparse.Namespace) -> int:
    from glmstudio.knowledge.score_report import rows
    from glmstudio.knowledge.scoring import last_score
    from glmstudio.rundir.run import find_run
    from glmstudio.runs.run_report import export_report

    run = find_run(options.name)
    score = last_score(run)
    scores = list(rows(language(), score)) if score else ()
    print(t("cli.exported", folder=export_report(run, options.to, options.out, language(), scores)))
    return 0


def _rename(options: argparse.Namespace) -> int:
    from glmstudio.rundir.run import find_run
    from glmstudio.runs.manage import rename_run

    print(t("cli.renamed", name=rename_run(find_run(options.name), options.new).name))
    return 0


def _note(options: argparse.Namespace) -> int:
    from glmstudio.rundir.run import find_run
    from glmstudio.runs.manage import read_note, write_note

    run = find_run(options.name)
    if options.text is not None:
        write_note(run, options.text)
    print(read_note(run))
    return 0


def _delete(options: argparse.Namespace) -> int:
    from glmstudio.rundir.run import find_run
    from glmstudio.runs.manage import delete_run, size_of

    run = find_run(options.name)
    question = t("cli.run_delete", name=run.name, size=size(size_of(run)))
    if not options.yes and not confirmed(question):
        return 1
    print(t("cli.run_deleted", name=run.name, freed=size(delete_run(run))))
    return 0


def _queue(options: argparse.Namespace) -> int:
    from glmstudio.rundir import queue_file
    from glmstudio.runs.start import advance

    if options.name and options.by:
        queue_file.move(options.name, options.by)
    advance()
    names = queue_file.waiting()
    if options.json:
        print_json(names)
    else:
        print("\n".join(f"{number}. {name}" for number, name in enumerate(names, 1)) or t("cli.queue_empty"))
    return 0
