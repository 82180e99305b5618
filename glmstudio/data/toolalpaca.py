"""ToolAlpaca's `train_data.json` as official multi-turn records, record for record as the original converter.

The original drops what it cannot convert without a word; here each dropped instance comes back with its reason.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.data.records import Problem, read_values
from glmstudio.errors import StudioError
from glmstudio.files import write_text


@dataclass(frozen=True)
class Conversion:
    """How many records were written, and what was left out."""

    records: int
    dropped: tuple[Problem, ...]


def convert_toolalpaca(source: str | Path, target: str | Path) -> Conversion:
    """Write the records of `source` to `target` (`.jsonl`), whole or not at all. Raises StudioError."""
    records: list[dict[str, Any]] = []
    dropped: list[Problem] = []
    for line, api in read_values(Path(source)):
        try:
            if isinstance(api, StudioError):
                raise api
            tools, instances = _api(api)
        except StudioError as reason:
            dropped.append(Problem(str(source), line, reason))
            continue
        for number, instance in enumerate(instances, 1):
            try:
                records.append(_record(tools, instance, number))
            except StudioError as reason:
                dropped.append(Problem(str(source), line, reason))
    if not records:
        raise StudioError("data.toolalpaca_nothing", file=str(source))
    write_text(Path(target), "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return Conversion(len(records), tuple(dropped))


def _api(api: Any) -> tuple[str, list[Any]]:
    if not isinstance(api, dict) or not isinstance(api.get("NLDocumentation"), str):
        raise StudioError("data.toolalpaca_api")
    instances = api.get("Instances")
    if not isinstance(instances, list):
        raise StudioError("data.toolalpaca_api")
    return api["NLDocumentation"], instances


def _record(documentation: str, instance: Any, number: int) -> dict[str, Any]:
    if not isinstance(instance, dict):
        raise StudioError("data.toolalpaca_instance", number=number)
    for field in ("input", "intermediate_steps", "Final Thought", "output"):
        if field not in instance:
            raise StudioError("data.toolalpaca_field", number=number, field=field)
    turns: list[dict[str, Any]] = [{"role": "user", "content": instance["input"]}]
    steps = instance["intermediate_steps"]
    if not isinstance(steps, list):
        raise StudioError("data.toolalpaca_step", number=number)
    for step in steps:
        turns += _step(step, number)
    turns.append({"role": "assistant", "content": f"{instance['Final Thought']}\n{instance['output']}"})
    return {"tools": [documentation], "conversations": turns}


def _step(step: Any, number: int) -> list[dict[str, Any]]:
    try:
        (name, arguments, react), observation = step
        thought = react.split("Action:")[0].strip()
    except (TypeError, ValueError, AttributeError) as error:
        raise StudioError("data.toolalpaca_step", number=number) from error
    try:
        parameters = json.loads(arguments)
    except (TypeError, ValueError) as error:
        raise StudioError("data.toolalpaca_arguments", number=number, name=str(name)) from error
    if not isinstance(parameters, dict):
        raise StudioError("data.toolalpaca_arguments", number=number, name=str(name))
    return [
        {"role": "assistant", "content": thought},
        {"role": "tool", "name": name, "parameters": parameters, "observation": observation},
    ]
