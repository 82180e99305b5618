"""Whether it pays to compute a beginning that conversations share once for several of them (`shared_prompts`)."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glmstudio.config.settings import Settings, on_one_prompt, pack_limit
from glmstudio.data.openings import Openings, openings_of
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.selection import Selection
from glmstudio.data.store import Store
from glmstudio.data.table import Numbers
from glmstudio.planning.probe import Probe

_LOOKED_AT = 20_000  # conversations, the first ones: enough to tell, in a moment
_WORTH = 1.15  # times as fast: less is not proposed
_PROMPTS_A_STEP = 4  # that a step keeps at least, unless the data have fewer
_KEPT = 8
_known: OrderedDict[tuple[str, str, int], Openings] = OrderedDict()


@dataclass(frozen=True)
class Sharing:
    """A proposal: `most` conversations on one prompt, and how many times fewer tokens that is to compute, at most. Of
    `looked_at` conversations, `alike` begin as another one does.

    `settings` are those of the plan with it, and `probe` what is measured of them, once there is a plan.
    """

    most: int
    gain: float
    alike: int
    looked_at: int
    settings: Settings | None = None
    probe: Probe | None = None

    def measured_gain(self, without: Probe) -> float | None:
        """How many times as fast it is, where both were measured."""
        speeds = self.probe and self.probe.tokens_per_second, without.tokens_per_second
        return speeds[0] / speeds[1] if speeds[0] and speeds[1] else None


def propose_sharing(settings: Settings, model: Path, store: Store, chosen: Selection) -> Sharing | None:
    """The proposal for these data; None where they share too little, or somebody has set it already."""
    a_step = settings.batch_size * settings.accumulation
    if not settings.packing or on_one_prompt(settings) > 1 or a_step < 2 or store.form == "text":
        return None
    found, ends = _openings(model, store, chosen), chosen.ends[:_LOOKED_AT]
    families, sizes = np.unique(found.family[found.family >= 0], return_counts=True)
    alike = int(sizes[sizes > 1].sum())
    if not alike:
        return None
    most = max(2, a_step // min(_PROMPTS_A_STEP, len(families)))
    limit = pack_limit(dataclasses.replace(settings, shared_prompts=most), int(ends.max()))
    gain = float(ends.sum() / (ends.sum() - _saved(found, ends, most, limit)))
    return Sharing(most, gain, alike, len(ends)) if gain >= _WORTH else None


def _saved(found: Openings, ends: Numbers, most: int, limit: int) -> int:
    """The tokens that are not computed again, where as many share a prompt as a pack holds with it."""
    shared = found.family >= 0
    _, first, place, counts = np.unique(
        found.family[shared], return_index=True, return_inverse=True, return_counts=True
    )
    prompts = found.length[shared][first]
    own = np.maximum(1.0, np.bincount(place, weights=ends[shared]) / counts - prompts)
    together = np.clip((limit - prompts) // own, 1, most).astype(np.int64)
    return int(((counts - -(-counts // together)) * prompts).sum())


def _openings(model: Path, store: Store, chosen: Selection) -> Openings:
    key = store.key, chosen.policy, chosen.max_length
    if key not in _known:
        rows, ends = chosen.rows[:_LOOKED_AT], chosen.ends[:_LOOKED_AT]
        _known[key] = openings_of(store, rows, ends, Tokenizer(model).user)
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    return _known[key]
