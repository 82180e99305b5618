"""The machines that train one run together, as `run.json` and the command line have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glmstudio.untrusted import items, number, table

PORT = 29400  # where torchrun's machines meet, unless told otherwise
JOIN_SECONDS = 600


@dataclass(frozen=True)
class Machine:
    """One machine: its name or address as it was given, the IPv4 address that this means, and how many processes."""

    address: str
    processes: int
    ip: str


@dataclass(frozen=True)
class Cluster:
    """The machines in order, the first one first. `least`: with how many it may begin and go on; `join_seconds`: for
    how long those that are missing are waited for."""

    machines: tuple[Machine, ...]
    port: int = PORT
    least: int = 2
    join_seconds: int = JOIN_SECONDS

    @property
    def control(self) -> int:
        """The port of the control server."""
        return self.port + 1

    @property
    def text(self) -> str:
        """The machines as one types them."""
        return ",".join(f"{each.address}*{each.processes}" for each in self.machines)

    @property
    def flags(self) -> list[str]:
        """What the command of the first machine says of the others."""
        flags = ["--machines", self.text]
        for flag, value, usual in (
            ("--port", self.port, PORT),
            ("--least", self.least, len(self.machines)),
            ("--join-seconds", self.join_seconds, JOIN_SECONDS),
        ):
            if value != usual:
                flags += [flag, str(value)]
        return flags

    def to_json(self) -> dict[str, Any]:
        """A form for `run.json`."""
        machines = [{"address": each.address, "processes": each.processes, "ip": each.ip} for each in self.machines]
        return {"machines": machines, "port": self.port, "least": self.least, "join_seconds": self.join_seconds}

    @classmethod
    def from_json(cls, data: Any) -> Cluster | None:
        """What `to_json` wrote; None where it is not that."""
        told = table(data)
        machines = tuple(
            Machine(str(each.get("address")), max(1, int(number(each.get("processes"), 1))), str(each.get("ip")))
            for each in map(table, items(told.get("machines")))
        )
        if len(machines) < 2:
            return None
        values = [int(number(told.get(name))) for name in ("port", "least", "join_seconds")]
        return cls(machines, *values)
