"""Scripts for clusters, printed instead of starting here: for a training, and for the model server."""

from __future__ import annotations

import argparse
from typing import Any

from glmstudio.errors import StudioError

TRAINING = ("shell", "slurm", "kubernetes", "skypilot")
SERVING = ("slurm", "kubernetes", "skypilot")
_PORT = 8000  # of a server whose port nobody chose: others have to know it


def refuse_machines(options: argparse.Namespace) -> None:
    """Raise StudioError where machines are named for a cluster that chooses them itself."""
    if options.script in ("kubernetes", "skypilot") and options.machines is not None:
        raise StudioError("cli.nodes_instead", script=options.script)


def print_training(request: Any, options: argparse.Namespace) -> int:
    """Print a script for all machines; whoever has it can join, for the code is in it."""
    from glmstudio.cluster.join_code import new_code
    from glmstudio.cluster.scripts.kubernetes_manifest import kubernetes_training
    from glmstudio.cluster.scripts.shell_scripts import shell_script, slurm_script
    from glmstudio.cluster.scripts.skypilot_task import skypilot_training

    kind, code = options.script, new_code()
    if kind in ("kubernetes", "skypilot"):
        asked = _training(request, options, code)
        print((kubernetes_training if kind == "kubernetes" else skypilot_training)(asked), end="")
        return 0
    if request.cluster is None:
        raise StudioError("cluster.machines_needed")
    first = request.parts(with_machines=kind == "shell")
    print((shell_script if kind == "shell" else slurm_script)(request.cluster, first, code), end="")
    return 0


def print_server(options: argparse.Namespace) -> int:
    """Print a script that starts the model server; the key that it will ask for is in it."""
    from glmstudio.access.api_key import VARIABLE, given_key, new_key
    from glmstudio.cluster.scripts.kubernetes_manifest import kubernetes_server
    from glmstudio.cluster.scripts.script_request import ServeScript
    from glmstudio.cluster.scripts.shell_scripts import slurm_server
    from glmstudio.cluster.scripts.skypilot_task import skypilot_server

    key = given_key(options.token_file) or new_key()
    cards = _cards(options.device or "")
    asked = ServeScript(_serve_command(options), cards, options.port or _PORT, key, VARIABLE, options.model)
    make = {"slurm": slurm_server, "kubernetes": kubernetes_server, "skypilot": skypilot_server}[options.script]
    print(make(asked), end="")
    return 0


def _training(request: Any, options: argparse.Namespace, code: str) -> Any:
    from glmstudio.cluster.scripts.script_request import TrainScript
    from glmstudio.cluster.spec import read_port
    from glmstudio.config.settings import change

    settings = change(request.preset.settings, request.changes, source="--set")
    return TrainScript(
        request.parts(with_machines=False),
        max(1, options.nodes),
        settings.processes or 1,
        code,
        on_cpu=settings.device == "cpu",
        port=read_port(options.port),
        title=request.name or request.preset.name,
    )


def _serve_command(options: argparse.Namespace) -> list[str]:
    """The server's command as it was typed, less its address and its key."""
    command = ["python", "launcher.py", "serve", "--model", options.model]
    for adapter in options.adapter:
        command += ["--adapter", adapter]
    for flag, value, usual in (
        ("--dtype", options.dtype, "auto"),
        ("--bits", options.bits, "16"),
        ("--device", options.device, None),
        ("--graph", options.graph, "auto"),
        ("--engine", options.engine, "studio"),
        ("--engine-python", options.engine_python, ""),
    ):
        command += [flag, value] if value != usual else []
    return command


def _cards(device: str) -> int:
    """How many GPUs a server's device names."""
    return 0 if device == "cpu" else device.count(",") + 1
