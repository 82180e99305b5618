"""The links between several GPUs, measured with and without P2P: whether what one sends arrives unchanged, how fast.

The workers are `glmstudio.train.distributed.links`. Two of them were run on CPUs; with GPUs this was never run.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glmstudio.doctor.checks.training_start import last_error, launch
from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.system.nvml import read_cards

P2P_OFF = {"NCCL_P2P_DISABLE": "1"}
_LIMIT = 90.0  # seconds for each of the two measurements: where P2P does not work, NCCL waits for ever
_SLOWER = 0.8  # below this part of the speed without P2P, it is not chance
_NAMED = 6  # pairs of GPUs that are named


@dataclass(frozen=True)
class Links:
    """One measurement. `problem` is why there is none: "hangs", or what was printed last."""

    problem: str = ""
    backend: str = ""
    wrong: tuple[tuple[int, int], ...] = ()  # from, to
    gb_s: float = 0.0
    right_sums: bool = True

    @property
    def is_right(self) -> bool:
        """Whether it was made, and everything arrived as it was sent."""
        return not self.problem and not self.wrong and self.right_sums


@check("dist.links", family="card", limit=2 * _LIMIT + 15, deep=True)
def links(probes: Probes) -> Finding | None:
    """How well the GPUs reach each other. Made only when somebody asks: it loads PyTorch twice, and fills the links."""
    count = len(probes.ask(read_cards).gpus)
    if count < 2 or importlib.util.find_spec("torch") is None:
        return None
    direct = measure(count)
    if direct.backend == "gloo":  # the workers took the CPU: some of the GPUs are hidden, or PyTorch knows none
        return found("ok", "hidden", count=count)
    return judge(count, direct, measure(count, P2P_OFF))


def measure(workers: int, variables: dict[str, str] | None = None) -> Links:
    """Start so many workers and let them copy and add up."""
    done = launch("glmstudio.train.distributed.links", processes=workers, limit=_LIMIT, variables=variables)
    if done is None:
        return Links("hangs")
    for line in done.output.splitlines():
        if line.startswith("links {") and done.returncode == 0:
            told = json.loads(line.removeprefix("links "))
            wrong = tuple((source, target) for source, target in told["wrong"])
            return Links("", told["backend"], wrong, told["gb_s"], told["right_sums"])
    return Links(last_error(done.output))


def judge(count: int, direct: Links, without: Links) -> Finding:
    """What both measurements say together: with direct connections (P2P), and through main memory."""
    values: dict[str, Any] = {"count": count, "gb_s": direct.gb_s, "without": without.gb_s}
    if direct.is_right and without.is_right:
        slower = direct.gb_s < _SLOWER * without.gb_s
        return Finding("warning" if slower else "ok", "slow" if slower else "ok", values)
    if direct.is_right:
        return found("ok", "only_direct", count=count, gb_s=direct.gb_s)
    if without.is_right:
        return _bad(("p2p_hangs", "p2p_failed", "p2p_wrong"), direct, values)
    return _bad(("all_hangs", "all_failed", "all_wrong"), direct, values)


def _bad(cases: tuple[str, str, str], links: Links, values: Mapping[str, Any]) -> Finding:
    hangs, failed, wrong = cases
    if links.problem == "hangs":
        return Finding("error", hangs, {**values, "seconds": _LIMIT})
    if links.problem:
        return Finding("error", failed, {**values, "error": links.problem})
    pairs = ", ".join(f"{source} → {target}" for source, target in links.wrong[:_NAMED]) or "all_reduce"
    return Finding("error", wrong, {**values, "pairs": pairs})
