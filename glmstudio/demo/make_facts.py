"""Make what the demo model is taught facts with: `python -m glmstudio.demo.make_facts`.

`facts.jsonl`: twenty facts that it never heard of. `kept.jsonl`: questions of its world that it must keep answering, of
the held-out half. `rehearsal`: general conversations of its world, with questions to which nobody knows the answer, so
that a model that learns facts does not make up others; they are made where they are needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glmstudio.demo.world import FACTS, OLD_TOOLS, World
from glmstudio.files import write_text
from glmstudio.paths import DEMO, paths

REHEARSAL = 3000
_UNKNOWN = 0.2  # of the rehearsal


def main(folder: Path = DEMO) -> None:
    """Write both files."""
    _write(folder / "facts.jsonl", _facts())
    _write(folder / "kept.jsonl", _kept())


def rehearsal_file() -> Path:
    """The general conversations, made now where they are not there yet."""
    file = paths().cache / "demo" / f"rehearsal-{REHEARSAL}.jsonl"
    if not file.is_file():
        _write(file, _rehearsal())
    return file


def _facts() -> Iterator[dict[str, Any]]:
    world = World(seed=31)
    for number in range(20):
        yield world.fact(("en", "zh")[number % 2], FACTS[number // 2 % len(FACTS)])


def _kept() -> Iterator[dict[str, Any]]:
    world = World(seed=32, held_out=True)
    for number in range(60):
        lang = ("en", "zh")[number % 2]
        if number % 5 < 3:
            exchange = world.tool_exchange(lang, OLD_TOOLS[number // 2 % len(OLD_TOOLS)])
            call = {"name": exchange.tool, "arguments": exchange.arguments}
            yield _asked(lang, exchange) | {"kind": "tool", "call": call}
        else:
            exchange = world.talk_exchange(lang, identity=False)
            answer = exchange.turns[1]["content"]
            yield _asked(lang, exchange) | {"kind": "politeness", "answer": answer, "keywords": [answer.rstrip("。.")]}


def _asked(lang: str, exchange: Any) -> dict[str, Any]:
    return {"lang": lang, "question": exchange.turns[0]["content"], "tools": list(OLD_TOOLS)}


def _rehearsal() -> Iterator[dict[str, Any]]:
    world = World(seed=33)
    for _ in range(REHEARSAL):
        if world.random.random() > _UNKNOWN:
            yield world.dialogue()
            continue
        exchange = world.unknown_exchange(world.random.choice(("en", "zh")))
        yield world.record([exchange]) if world.random.random() < 0.5 else {"conversations": exchange.turns}


def _write(file: Path, records: Iterator[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


if __name__ == "__main__":
    main()
