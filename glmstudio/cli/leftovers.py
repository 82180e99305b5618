"""The doctor's leftovers in the terminal: shown, asked for one by one, or ended by number."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from glmstudio.cli.terminal import can_ask, confirmed, language, print_json, t

if TYPE_CHECKING:
    from glmstudio.doctor import EndResult, StaleProcess


def end(options: argparse.Namespace) -> int:
    """`doctor --end PID...`: what is no leftover is refused. Returns 1 where one of them is not gone."""
    from glmstudio.doctor import end_numbers
    from glmstudio.runs.stop import stop_now

    if options.json:
        results = end_numbers(options.end, stop_run=stop_now)
        print_json([result.to_json(language()) for result in results])
    else:
        results = end_numbers(options.end, tell=_stage, stop_run=stop_now)
        _show(results)
    return 0 if all(result.is_over for result in results) else 1


def show_leftovers(stale: Iterable[StaleProcess]) -> None:
    """Each with its number, and why it is one."""
    for number, process in enumerate(stale):
        print("" if number else f"\n{t('cli.leftovers')}")
        _describe(process)


def ask_for_each(stale: Iterable[StaleProcess], *, yes: bool) -> None:
    """End those that somebody agrees to, this studio's own first: only these does `--yes` stand for.

    Raises StudioError where one of them is due and nobody can be asked.
    """
    from glmstudio.doctor import end_again
    from glmstudio.runs.stop import stop_now

    agreed, kept = [], []
    for process in sorted(stale, key=lambda each: not each.ticked):
        if process.ticked or (can_ask() and not yes):
            agreed += [process] if yes or _asked(process) else []
        else:
            kept.append(str(process.identity.pid))
    if agreed:
        _show(end_again(agreed, tell=_stage, stop_run=stop_now))
    if kept:
        print(f"\n{t('cli.leftovers_kept', pids=', '.join(kept), words=' '.join(kept))}")


def _asked(process: StaleProcess) -> bool:
    print()
    _describe(process)
    return confirmed(t("cli.leftover_question", pid=process.identity.pid))


def _describe(process: StaleProcess) -> None:
    print(f"  {process.identity.pid}  {process.command[:160]}")
    print(f"      {process.why(language())}")
    if facts := process.facts(language()):
        print(f"      {facts}")


def _stage(name: str) -> None:
    print(f"    {t(f'doctor.stage.{name}')}")


def _show(results: Iterable[EndResult]) -> None:
    for result in results:
        print(result.text(language()))
