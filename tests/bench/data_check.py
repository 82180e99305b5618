"""A large data set: `python -m tests.bench.data_check [--records 100000] [--model DIR]`.

Generates multi-turn records of about 300 tokens, checks them, prepares them, each in a process of its own, and prints the
seconds (of the clock and of the processor), the peak of the resident memory, and how long it takes to open the store again
and to select from it. `--only-check` leaves out all that needs a vocabulary; with `--bad` every record but one of a hundred
has a problem.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.vocabulary import VOCABULARY

_TEXT = (
    "the weather in a small town near the river was good yesterday and people walked along the road to see the old bridge "
    "我们 今天 去 公园 看 花 然后 回家 吃饭 晚上 一起 读书 明天 天气 可能 下雨"
)
_WORDS = tuple(_TEXT.split())
_CHECK = """
import json, sys, time
from pathlib import Path
from glmstudio.data.records import check_file
def peak(): return int([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]) * 1024
before, began, busy = peak(), time.monotonic(), time.process_time()
found = check_file(Path(sys.argv[1]), tell=lambda share, records: None)
print(json.dumps({"records": found.records, "problems": found.tally.count, "seconds": time.monotonic() - began,
                  "busy": time.process_time() - busy, "before": before, "peak": peak()}))
"""
_PREPARE = """
import json, sys, time
from pathlib import Path
from glmstudio.data.store import prepare
def peak(): return int([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]) * 1024
told = []
began, busy = time.monotonic(), time.process_time()
store = prepare(Path(sys.argv[1]), Path(sys.argv[2]), tell=lambda share, records: told.append(share))
busy = time.process_time() - busy
built, built_peak = time.monotonic() - began, peak()
began = time.monotonic()
store = prepare(Path(sys.argv[1]), Path(sys.argv[2]))
opened = time.monotonic() - began
began = time.monotonic()
chosen = store.select("fix", int(sys.argv[3]))
print(json.dumps({"records": len(store), "tokens": int(store.lengths.sum()), "seconds": built, "busy": busy, "peak": built_peak, "later": peak(),
                  "open": opened, "select": time.monotonic() - began, "told": len(told),
                  "rising": told == sorted(told), "used": chosen.used, "cut": chosen.cut}))
"""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--model", default=str(VOCABULARY))
    parser.add_argument("--kind", choices=["json", "jsonl"], default="json")
    parser.add_argument("--only-check", action="store_true")
    parser.add_argument("--bad", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"data.{options.kind}")
        write(file, options.records, bad=options.bad)
        size = file.stat().st_size
        checked = check(file, Path(folder, "home"))
        print(
            f"{checked['records']:,} records, {checked['problems']:,} problems, {size / 1e6:.0f} MB of {options.kind}: checked in {checked['seconds']:.1f} s "
            f"({checked['busy']:.1f} s of the processor), peak {checked['peak'] / 1e6:.0f} MB, "
            f"{checked['before'] / 1e6:.0f} MB of it before"
        )
        if options.only_check:
            return
        figures = measure(file, Path(options.model), Path(folder, "home"))
    print(f"{figures['records']:,} records, {figures['tokens']:,} tokens, {size / 1e6:.0f} MB of {options.kind}")
    print(
        f"prepared in {figures['seconds']:.1f} s ({figures['busy']:.1f} s of the processor), peak {figures['peak'] / 1e6:.0f} MB, told {figures['told']} times"
    )
    print(
        f"opened again in {figures['open'] * 1000:.0f} ms, selected in {figures['select'] * 1000:.0f} ms, "
        f"peak then {figures['later'] / 1e6:.0f} MB"
    )


def write(file: Path, records: int, seed: int = 1, *, bad: bool = False) -> None:
    """Write a data set of multi-turn records, about 300 tokens each."""
    draw = random.Random(seed)
    made = (record(draw, number) for number in range(records))
    if bad:
        made = (spoiled(each, number) for number, each in enumerate(made))
    lines = (json.dumps(each, ensure_ascii=False) for each in made)
    with file.open("w", encoding="utf-8") as out:
        if file.suffix == ".jsonl":
            out.writelines(f"{line}\n" for line in lines)
        else:
            for number, line in enumerate(lines):
                out.write(f"{',' if number else '['}\n{line}")
            out.write("\n]\n")


def record(draw: random.Random, number: int) -> dict[str, Any]:
    """One conversation of two to four exchanges."""
    turns = []
    for _ in range(draw.randint(2, 4)):
        turns.append({"role": "user", "content": f"{number}: {_text(draw, 20)}?"})
        turns.append({"role": "assistant", "content": f"{_text(draw, 60)}."})
    return {"conversations": turns}


def spoiled(whole: dict[str, Any], number: int) -> dict[str, Any]:
    """The record with a fault that has no fix, one that has, or, once in a hundred, none."""
    turns = whole["conversations"]
    if number % 100 == 0:
        return whole
    return {"conversations": turns[1:] if number % 2 else turns[:-1]}


def check(file: Path, home: Path) -> dict[str, Any]:
    """Check a file in a process of its own, and what that took."""
    return _child(_CHECK, home, str(file))


def measure(file: Path, model: Path, home: Path, limit: int = 256) -> dict[str, Any]:
    """Prepare a file in a process of its own, and what that took."""
    return _child(_PREPARE, home, str(file), str(model), str(limit))


def _child(program: str, home: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "GLMSTUDIO_HOME": str(home)},
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(_WORDS, k=draw.randint(words // 2, words + words // 2)))


if __name__ == "__main__":
    main()
