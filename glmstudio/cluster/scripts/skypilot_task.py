"""A training or a model server as a task of SkyPilot: `sky launch FILE`, on whichever cloud or cluster it finds."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from glmstudio.cluster.join_code import VARIABLE as JOIN_CODE
from glmstudio.cluster.scripts.script_request import ServeScript, TrainScript
from glmstudio.cluster.scripts.yaml_text import yaml_text
from glmstudio.paths import ROOT

_ANY_GPU = "H100"  # which one is the user's to say; SkyPilot wants a name
_DATA = "/tmp/glm-studio-data"  # noqa: S108  on the machines that SkyPilot makes
_SETUP = "python3 launcher.py models list\n"  # any command sets the environment up first
_COMMENTS = [
    "sky launch THIS_FILE; it holds a key, so keep it to yourself.",
    f"{_ANY_GPU} is an example: choose another one from `sky show-gpus`.",
    "A model other than the demo has to be downloaded in `setup`: python3 launcher.py models download NAME.",
]


def skypilot_training(asked: TrainScript) -> str:
    """A task on so many nodes; the first one starts the run, the others join it."""
    first, mounts = _mounted([*asked.first, *asked.flags])
    command = shlex.join(_python3(first))
    if asked.nodes == 1:
        lines = [f"{command} --follow"]
    else:
        lines = [
            'FIRST=$(head -n 1 <<<"$SKYPILOT_NODE_IPS")',
            f"MACHINES=$(sed 's/$/*{asked.processes}/' <<<\"$SKYPILOT_NODE_IPS\" | paste -sd, -)",
            'if [ "$SKYPILOT_NODE_RANK" = 0 ]; then',
            f'  {command} --machines "$MACHINES" --follow',
            "else",
            f'  python3 launcher.py join "$FIRST:{asked.control}" --machine "$((SKYPILOT_NODE_RANK + 1))"',
            "fi",
        ]
    task = _task(asked.name, asked.cards) | ({"num_nodes": asked.nodes} if asked.nodes > 1 else {})
    task |= {"file_mounts": mounts} if mounts else {}
    task |= {"secrets": {JOIN_CODE: asked.code}} if asked.nodes > 1 else {}
    return yaml_text(_COMMENTS, task | {"setup": _SETUP, "run": _script(lines)})


def skypilot_server(asked: ServeScript) -> str:
    """A task that serves at a port of its machine."""
    command = _python3([*asked.command, "--host", "0.0.0.0", "--port", str(asked.port)])  # noqa: S104  behind a key
    task = _task(asked.name, asked.cards)
    task["resources"]["ports"] = asked.port
    task |= {"secrets": {asked.variable: asked.key}}
    return yaml_text(_COMMENTS, task | {"setup": _SETUP, "run": _script([shlex.join(command)])})


def _task(name: str, cards: int) -> dict[str, Any]:
    resources: dict[str, Any] = {"accelerators": f"{_ANY_GPU}:{cards}"} if cards else {"cpus": "4+"}
    return {"name": name, "workdir": str(ROOT), "resources": resources}


def _script(lines: list[str]) -> str:
    return "\n".join(["set -euo pipefail", *lines]) + "\n"


def _python3(command: list[str]) -> list[str]:
    return ["python3" if each == "python" else each for each in command]


def _mounted(command: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command with the place that the data have on the machines, and what SkyPilot is to copy there."""
    if "--data" not in command:
        return command, {}
    at = command.index("--data") + 1
    here = Path(command[at]).expanduser().absolute()
    there = f"{_DATA}/{here.name}"
    return [*command[:at], there, *command[at + 1 :]], {there: str(here)}
