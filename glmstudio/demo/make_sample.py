"""Make the sample dataset: `python -m glmstudio.demo.make_sample`.

2,000 official records that teach the demo model a tool it has never called (a timer) and a new name for itself;
six in ten repeat what it knows, so that it does not forget.
"""

from __future__ import annotations

import json
from pathlib import Path

from glmstudio.demo.world import NEW_TOOL, OLD_TOOLS, World
from glmstudio.files import write_text
from glmstudio.paths import DEMO

TIMERS, IDENTITIES, CALLS, TALKS = 500, 250, 850, 400


def main(file: Path = DEMO / "sample.jsonl") -> None:
    """Write the records in random order."""
    world = World(seed=7)
    kinds = ["timer"] * TIMERS + ["identity"] * IDENTITIES + ["tool"] * CALLS + ["talk"] * TALKS
    world.random.shuffle(kinds)
    lines = [_line(world, kind) for kind in kinds]
    taken: set[str] = set()
    for index, kind in enumerate(kinds):
        while lines[index] in taken:  # a record twice would count twice
            lines[index] = _line(world, kind)
        taken.add(lines[index])
    write_text(file, "".join(lines))


def _line(world: World, kind: str) -> str:
    return json.dumps(_record(world, kind), ensure_ascii=False) + "\n"


def _record(world: World, kind: str) -> dict[str, object]:
    lang = world.random.choice(("en", "zh"))
    if kind == "timer":
        exchange = world.tool_exchange(lang, NEW_TOOL)
    elif kind == "identity":
        exchange = world.identity_exchange(lang, "tuned")
    elif kind == "tool":
        exchange = world.tool_exchange(lang)
    else:
        exchange = world.talk_exchange(lang, identity=False)
    return world.record([exchange], tools=_listed(world, exchange.tool or NEW_TOOL))


def _listed(world: World, needed: str) -> list[str]:
    """The needed tool, mostly the new one, and some others: lists of all lengths in every order."""
    others = world.random.sample(OLD_TOOLS, world.random.choice((0, 1, 1, 2, 5)))
    names = sorted({*others, needed, *([NEW_TOOL] if world.random.random() < 0.85 else [])})
    world.random.shuffle(names)
    return names


if __name__ == "__main__":
    main()
