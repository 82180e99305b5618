"""What this machine can do, in the terminal: measured in two minutes, with what to expect of it."""

from __future__ import annotations

import argparse
import sys
import time
from itertools import groupby
from typing import TYPE_CHECKING, Any

from glmstudio.cli.terminal import command, json_flag, language, print_json, t
from glmstudio.units import duration, memory_bytes, milliseconds

if TYPE_CHECKING:
    from glmstudio.planning.expectation import Chatting, Expectation, Tuning
    from glmstudio.planning.machine_bench import Bench


_LARGE = 2_000_000_000  # bytes: what takes less is not worth smaller weights

_STEADY = 1.3  # times: so much may the speed change while it is measured


def add(commands: Any) -> None:
    """`bench`."""
    bench = command(commands, "bench", _bench, "bench.about")
    bench.add_argument("--last", action="store_true", help=t("bench.last"))
    json_flag(bench)


def _bench(options: argparse.Namespace) -> int:
    from glmstudio.planning.machine_bench import bench, last

    if options.last:
        result = last()
    else:
        progress = _Progress(quiet=options.json)
        try:
            result = bench(progress)
        except KeyboardInterrupt:
            progress.close()
            print(t("bench.stopped"), file=sys.stderr)
            return 130
        finally:
            progress.close()
    if options.json:
        print_json(result.to_json())
    else:
        print("\n".join(report(result)))
    return 0


class _Progress:
    """What is measured now and how long it will take still, on the error stream: one line that changes, or, where that
    is no terminal, a line for each stage, unless `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self._terminal = sys.stderr.isatty()
        self._quiet, self._drawn = quiet and not self._terminal, False
        self._stage, self._left, self._since = "", 0.0, 0.0

    def __call__(self, stage: str, left: float) -> None:
        if (stage, left) != (self._stage, self._left):
            self._stage, self._left, self._since = stage, left, time.monotonic()
            if not self._terminal and not self._quiet:
                print(self._line(left), file=sys.stderr, flush=True)
        if self._terminal:
            self._drawn = True
            text = self._line(max(1.0, left - (time.monotonic() - self._since)))
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    def _line(self, left: float) -> str:
        return t("bench.going", stage=t(f"bench.stage.{self._stage}"), left=duration(language(), left))

    def close(self) -> None:
        """Leave the line empty."""
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._drawn = False


def report(result: Bench) -> list[str]:
    """The lines of the readable form: the machine, what was measured, what to expect, the verdict, the next step."""
    lines = [_machine(result)]
    if result.machine.card and result.found["device"] == "cpu":
        lines.append(t("bench.card_unused"))
    lines += ["", t("bench.measured"), *_measured(result)]
    alike = groupby(result.expectations, key=lambda each: (each.tuning, each.chatting))
    for _, models in alike:
        group = list(models)
        lines += ["", t("bench.expected", models=", ".join(each.title for each in group)), *_expected(result, group[0])]
    if not result.kept:
        lines += ["", t("bench.not_kept")]
    chosen = result.verdict
    said = chosen.values | {"time": duration(language(), chosen.values.get("hours", 0.0) * 3600)}
    said |= {"need": memory_bytes(chosen.values.get("need", 0.0) * 1e9)}
    return [
        *lines,
        "",
        *_unsteady(result),
        t("bench.honest"),
        "",
        t(f"bench.verdict.{chosen.key}", **said),
        t("bench.next", command=chosen.command),
    ]


def _unsteady(result: Bench) -> list[str]:
    """A word where the machine was another one at the end than at the start."""
    first, again = result.found["product"], result.found["product_again"]
    times = max(first, again) / min(first, again)
    return [t("bench.unsteady", times=times)] if times > _STEADY else []


def _machine(result: Bench) -> str:
    machine = result.machine
    return t(
        "bench.machine",
        date=time.strftime("%Y-%m-%d %H:%M", time.localtime(result.time)),
        seconds=result.seconds,
        card=machine.card or t("bench.no_card"),
        processor=machine.processor,
        cores=machine.cores,
        memory=memory_bytes(machine.memory),
    )


def _measured(result: Bench) -> list[str]:
    found = result.found
    lines = [
        t("bench.product", speed=found["product"], dtype=found["dtype"]),
        t("bench.stream", speed=found["stream"]),
        t("bench.place", speed=found["place"]),
    ]
    disk = found["disk"]
    if disk["speed"]:
        lines.append(t("bench.disk_cached" if disk["cached"] else "bench.disk", speed=disk["speed"]))
    for model in found["models"].values():
        for method, times in (model.get("training") or {}).items():
            for tokens, seconds in times.items():
                values = {"method": t(f"settings.choice.{method}"), "tokens": int(tokens), "time": _short(seconds)}
                lines.append(t("bench.layer_scaled" if model["scaled"] else "bench.layer", **values))
        break  # the other models are small
    return [f"  {line}" for line in lines]


def _expected(result: Bench, model: Expectation) -> list[str]:
    lines = [_tuning(each, result.place.free) for each in model.tuning]
    large = model.chatting[0].need > _LARGE
    lines += [_chatting(each, result) for each in model.chatting if large or each.bits == "16"]
    if model.load_s is not None:
        lines.append(t("bench.load", time=_short(model.load_s)))
    return [f"  {line}" for line in lines]


def _tuning(each: Tuning, free: int) -> str:
    method = t(f"settings.choice.{each.method}")
    if not each.fits:
        return t("bench.no_room", what=method, need=memory_bytes(each.need), free=memory_bytes(free))
    if each.tokens_per_second is None or each.hours is None:
        return t("bench.fits", what=method, need=memory_bytes(each.need))
    passed, need = duration(language(), each.hours * 3600), memory_bytes(each.need)
    text = t("bench.tuning", method=method, speed=_speed(each.tokens_per_second), time=passed, need=need)
    if each.remedy:
        changes = " ".join(f"--set {name}={value}" for name, value in each.remedy.items())
        text += t("bench.with", changes=changes)
    elif each.checkpointing:
        text += t("bench.twice")
    return text


def _chatting(each: Chatting, result: Bench) -> str:
    whole = each.bits == "16"
    what = t("bench.answers_whole", dtype=result.found["dtype"]) if whole else t("bench.answers", bits=each.bits)
    if not each.fits:
        return t("bench.no_room", what=what, need=memory_bytes(each.need), free=memory_bytes(result.place.free))
    if each.tokens_per_second is None:
        return t("bench.no_way", what=what)
    text = t("bench.chatting", what=what, speed=_speed(each.tokens_per_second), need=memory_bytes(each.need))
    return text + (t("bench.first_token", time=_short(each.first_token_s)) if each.first_token_s else "")


def _speed(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def _short(seconds: float) -> str:
    if seconds < 0.1:
        return milliseconds(seconds)
    if seconds < 10:
        return t("units.seconds", s=f"{seconds:.1f}")
    return duration(language(), seconds)
