"""Make the sample data set: `python -m glmstudio.demo.make_sample`.

2,000 official records that teach the demo model a tool it has never called (the weather) and a new name for itself;
half of them repeat what it knows, so that it does not forget.
"""

from __future__ import annotations

import json
from pathlib import Path

from glmstudio.chat.tools import TOOLS
from glmstudio.demo.world import NEW_TOOL, World
from glmstudio.files import write_text
from glmstudio.paths import DEMO

WEATHERS, IDENTITIES, CALLS, TALKS = 700, 300, 650, 350


def main(file: Path = DEMO / "sample.jsonl") -> None:
    """Write the records in random order."""
    world = World(seed=7)
    kinds = ["weather"] * WEATHERS + ["identity"] * IDENTITIES + ["tool"] * CALLS + ["talk"] * TALKS
    world.random.shuffle(kinds)
    write_text(file, "".join(json.dumps(_record(world, kind), ensure_ascii=False) + "\n" for kind in kinds))


def _record(world: World, kind: str) -> dict[str, object]:
    lang = world.random.choice(("en", "zh"))
    if kind == "weather":
        exchange = world.tool_exchange(lang, NEW_TOOL)
    elif kind == "identity":
        exchange = world.identity_exchange(lang, "tuned")
    elif kind == "tool":
        exchange = world.tool_exchange(lang)
    else:
        exchange = world.talk_exchange(lang, identity=False)
    return world.record([exchange], tools=list(TOOLS))  # as the chat page lists them


if __name__ == "__main__":
    main()
