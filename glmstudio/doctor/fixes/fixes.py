"""What the doctor mends when a person says so: shown before, checked after, written down, and undone where possible.

What it mends by itself needs no question: a free port, 127.0.0.1, a way past proxies, a clean environment for runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from glmstudio.doctor.engine.report import Finding
from glmstudio.doctor.fixes import hosts_fix, torch_fix
from glmstudio.errors import StudioError
from glmstudio.words import say

_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class FixOffer:
    """A fix as a person is asked about it. `shown` is what would change, `mark` stands for exactly that."""

    fix: str
    subject: str
    shown: str
    mark: str

    def label(self, lang: str) -> str:
        """What its button says."""
        return say(lang, f"doctor.fix.{self.fix}.label")

    def question(self, lang: str) -> str:
        """What a person is asked before."""
        return say(lang, f"doctor.fix.{self.fix}.question", subject=self.subject)

    def done(self, lang: str) -> str:
        """What a person is told after."""
        return say(lang, f"doctor.fix.{self.fix}.done", subject=self.subject)


def offer(result: Finding) -> FixOffer | None:
    """The fix that a finding has a button for; None where it has none, or where it cannot be done here."""
    try:
        if result.action == "hosts.add":
            return _hosts("add", str(result.values["name"]))
        if result.action == "torch.install":
            shown, build = torch_fix.preview()
            return FixOffer("torch.install", build, shown, build)
    except StudioError:
        pass
    return None


def undoable() -> list[FixOffer]:
    """The changes that can be taken back now."""
    try:
        return [_hosts("remove", name) for name in hosts_fix.names_of_ours()]
    except StudioError:  # the file changed between the two looks
        return []


def apply(chosen: FixOffer, tell: Callable[[str], None] = lambda _: None) -> None:
    """Do it, if what was shown is still what would change. Raises StudioError; nothing has changed then."""
    with _ONE_AT_A_TIME:
        if chosen.fix == "torch.install":
            torch_fix.apply(chosen.mark, tell)
        elif chosen.fix in ("hosts.add", "hosts.remove"):
            hosts_fix.apply(chosen.fix.partition(".")[2], chosen.subject, chosen.mark)
        else:
            raise StudioError("doctor.fix.unknown", name=chosen.fix[:40])


def _hosts(action: str, name: str) -> FixOffer:
    shown, mark = hosts_fix.preview(action, name)
    return FixOffer(f"hosts.{action}", name, shown, mark)
