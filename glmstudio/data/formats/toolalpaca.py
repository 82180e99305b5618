"""ToolAlpaca's `train_data.json`: one API with its documentation and several conversations about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from glmstudio.data.formats.wording import ParsedConversation
from glmstudio.errors import StudioError
from glmstudio.files import short


def from_toolalpaca(api: Any) -> Iterator[ParsedConversation | StudioError]:
    """The conversations about one API, record for record as the original converter; what it drops, with the reason."""
    if not isinstance(api, dict) or not isinstance(api.get("NLDocumentation"), str):
        yield StudioError("data.toolalpaca_api")
        return
    instances = api.get("Instances")
    if not isinstance(instances, list):
        yield StudioError("data.toolalpaca_api")
        return
    for number, instance in enumerate(instances, 1):
        try:
            yield ParsedConversation(_record(api["NLDocumentation"], instance, number))
        except StudioError as reason:
            yield reason


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
    except (TypeError, ValueError, RecursionError) as error:
        raise StudioError("data.toolalpaca_arguments", number=number, name=short(name)) from error
    if not isinstance(parameters, dict):
        raise StudioError("data.toolalpaca_arguments", number=number, name=short(name))
    return [
        {"role": "assistant", "content": thought},
        {"role": "tool", "name": name, "parameters": parameters, "observation": observation},
    ]
