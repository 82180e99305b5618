"""What a script for a cluster is asked for: a training on some of its machines, or a model server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from glmstudio.rundir.machines import PORT

_NO_NAME = re.compile(r"[^a-z0-9]+")
_LONGEST = 40  # characters; clusters put numbers behind it, and 63 is the most they take


@dataclass(frozen=True)
class TrainScript:
    """The command that starts the run (`first`), on how many machines with how many processes each, one on each GPU
    unless it is `on_cpu`, and the code by which the others join."""

    first: Sequence[str]
    nodes: int
    processes: int
    code: str
    on_cpu: bool = False
    port: int = PORT
    title: str = ""

    @property
    def name(self) -> str:
        """What it is called in the cluster."""
        return cluster_name("train", self.title)

    @property
    def cards(self) -> int:
        """The GPUs of each machine."""
        return 0 if self.on_cpu else self.processes

    @property
    def control(self) -> int:
        """The port of the control server."""
        return self.port + 1

    @property
    def flags(self) -> list[str]:
        """What the first command says of the meeting, where it is not as usual."""
        return ["--port", str(self.port)] if self.port != PORT and self.nodes > 1 else []


@dataclass(frozen=True)
class ServeScript:
    """The command of the server without its address, the port, the GPUs, and the key in its environment variable."""

    command: Sequence[str]
    cards: int
    port: int
    key: str
    variable: str
    title: str = ""

    @property
    def name(self) -> str:
        """What it is called in the cluster."""
        return cluster_name("serve", self.title)


def cluster_name(what: str, title: str) -> str:
    """A name that Kubernetes and SkyPilot take: small letters, digits and dashes, a letter first."""
    short = _NO_NAME.sub("-", title.lower()).strip("-")[:_LONGEST].strip("-")
    return f"glm-{what}-{short}" if short else f"glm-{what}"
