"""The doctor in the terminal: findings first, fixes after a question, the report and the record of changes."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from glmstudio.cli.leftovers import ask_for_each, end, show_leftovers
from glmstudio.cli.terminal import command, confirmed, json_flag, language, print_json, t

if TYPE_CHECKING:
    from glmstudio.doctor import Finding, Report
    from glmstudio.doctor.fixes.fixes import FixOffer


def add(commands: Any) -> None:
    """`doctor`."""
    doctor = command(commands, "doctor", _doctor)
    json_flag(doctor)
    doctor.add_argument("checks", nargs="*", metavar="CHECK", help=t("cli.doctor_checks"))
    doctor.add_argument("--list", action="store_true", help=t("cli.doctor_list"))
    doctor.add_argument("--deep", action="store_true", help=t("cli.doctor_deep"))
    doctor.add_argument("--all", action="store_true", help=t("cli.doctor_all"))
    doctor.add_argument("--report", action="store_true", help=t("cli.doctor_report"))
    doctor.add_argument("--fix", action="store_true", help=t("cli.doctor_fix"))
    doctor.add_argument("--end", type=int, nargs="+", metavar="PID", help=t("cli.doctor_end"))
    doctor.add_argument("--undo", action="store_true", help=t("cli.doctor_undo"))
    doctor.add_argument("--changes", action="store_true", help=t("cli.doctor_changes"))
    doctor.add_argument("--yes", action="store_true", help=t("cli.doctor_yes"))


def _doctor(options: argparse.Namespace) -> int:
    from glmstudio.doctor import diagnose
    from glmstudio.doctor.diagnosis import refuse_unknown

    refuse_unknown(options.checks)
    if options.list:
        return _list(options)
    if options.changes:
        return _changes(options)
    if options.undo:
        return _undo(options)
    if options.end:
        return end(options)
    only = options.checks or None
    report = diagnose(only=only, deep=options.deep)
    if options.json:
        print_json(report.to_json(language()))
    elif options.report:
        print(report.to_text(language()))
    else:
        _show(report, every=options.all, chosen=bool(only))
    if options.fix:
        _fix(report, options)
        report = diagnose(only=only)
    return 1 if report.status == "error" else 0


def _list(options: argparse.Namespace) -> int:
    """What can be checked; nothing is."""
    from glmstudio.doctor.diagnosis import chosen

    lang = language()
    checks = chosen(options.checks or None, deep=True)
    if options.json:
        print_json([check.to_json(lang) for check in checks])
        return 0
    width = max((len(check.id) for check in checks), default=0)
    family = ""
    for check in checks:
        if check.family != family:
            family = check.family
            print(f"\n{t(f'doctor.family.{family}')}")
        about = check.about(lang)
        print(f"  {check.id:{width}}  {t('cli.doctor_list_slow', about=about) if check.deep else about}")
    return 0


def _show(report: Report, *, every: bool, chosen: bool) -> None:
    """Findings first, worst first; facts only where somebody asked, or where there is nothing else to say.

    Whoever chose the checks hears of each, and of one that does not apply here, too.
    """
    print(report.summary(language()))
    for finding in report.findings:
        _show_finding(finding)
    show_leftovers(report.stale)
    told = {result.key for result in report.findings}
    facts = [r for r in report.results if r.key not in told and (chosen or r.status != "skipped")]
    every = every or chosen or not report.problems
    print()
    for result in facts if every else []:
        print(f"  {result.title(language())}: {result.fact(language())}")
    if not every:
        print(t("cli.doctor_more", count=len(facts)))


def _show_finding(finding: Finding) -> None:
    print(f"\n[{t(f'cli.status.{finding.status}')}] {finding.what(language())}")
    for part in (finding.why, finding.fix):
        print(f"    {part(language())}")


def _fix(report: Report, options: argparse.Namespace) -> None:
    from glmstudio.doctor.fixes.fixes import offer

    for finding in report.findings:
        if chosen := offer(finding):
            _apply(chosen, options)
    ask_for_each(report.stale, yes=options.yes)


def _undo(options: argparse.Namespace) -> int:
    from glmstudio.doctor.fixes.fixes import undoable

    offers = undoable()
    for chosen in offers:
        _apply(chosen, options)
    if not offers:
        print(t("cli.doctor_nothing_to_undo"))
    return 0


def _apply(chosen: FixOffer, options: argparse.Namespace) -> None:
    from glmstudio.doctor.fixes.fixes import apply

    print(f"\n{chosen.shown}\n")
    if options.yes or confirmed(chosen.question(language())):
        apply(chosen, lambda line: print(f"    {line}"))
        print(chosen.done(language()))


def _changes(options: argparse.Namespace) -> int:
    from glmstudio.doctor.engine.audit import entries, sentence

    if options.json:
        print_json(entries())
        return 0
    for entry in entries():
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(entry['time']))}  {sentence(entry, language())}")
    if not entries():
        print(t("cli.doctor_no_changes"))
    return 0
