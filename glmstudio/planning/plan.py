"""The plan of a run, before it starts: does it fit, how long will it take, what will lie on the disk."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from glmstudio.config.settings import Settings, on_one_prompt, pack_limit
from glmstudio.data.selection import Selection, held_back
from glmstudio.data.store import Store
from glmstudio.errors import StudioError
from glmstudio.models import ready_model
from glmstudio.paths import paths
from glmstudio.planning.memory import Need, WorstBatch, trained
from glmstudio.planning.memory_fit import MARGIN, DeviceMemory, fit_memory, sharing_batch, too_big
from glmstudio.planning.model_shape import ModelShape, shape_of
from glmstudio.planning.probe import Probe, look_probe
from glmstudio.planning.sharing import Sharing, propose_sharing
from glmstudio.units import memory_bytes, size

MOST_PASSES = 10  # through the data: more wear a few answers in and everything else out
_MOST_STEPS = 20_000  # that a number of passes becomes
_FACT_STEPS = 300  # the fewest for facts: a few of them are not learned any sooner than twenty
_SAVES = 8  # so often at least, where the steps come from the data


@dataclass(frozen=True)
class Plan:
    """What a run needs and gives. Sizes in bytes; `seconds` is for all steps, where a probe has measured.

    `remedy` holds the settings that would make it fit, the least harmful first; empty where it fits or nothing helps.
    `learned_from` and `held_back` count conversations, `trained_tokens` and `trained_labels` the tokens of the former;
    `auto_validation`: nobody asked for those held back. `epochs` are the passes through those learned from, and where
    these are too many and nobody asked for passes, `fewer_steps` makes `MOST_PASSES` of them. `mixed` of those learned
    from are general records.
    """

    settings: Settings
    shape: ModelShape
    place: DeviceMemory
    need: Need
    tokens: int  # of all steps
    learned_from: int
    trained_tokens: int
    trained_labels: int
    held_back: int
    mixed: int
    epochs: float
    fewer_steps: int | None
    longest: int
    probe: Probe
    seconds: float | None
    disk: int
    disk_free: int
    remedy: dict[str, Any]
    at_once: int  # tokens that are computed at once at most, padding included
    twice: int  # layers that are computed twice
    sharing: Sharing | None = None  # what it would gain to compute common beginnings once
    auto_validation: bool = False

    def passes_of(self, steps: int) -> int:
        """How often so many steps go through the data, roughly."""
        return round(self.epochs * steps / self.settings.steps)

    @property
    def problem(self) -> StudioError | None:
        """Why the run would fail."""
        if not self.place.holds(self.need):
            return too_big(self.need, self.place, self.remedy)
        host, free = self.need.host * self.place.processes, psutil.virtual_memory().available
        if host > free * MARGIN:
            return StudioError("runs.host_small", need=memory_bytes(host), free=memory_bytes(free))
        if self.disk > self.disk_free:
            return StudioError("runs.disk_small", need=size(self.disk), free=size(self.disk_free))
        return None

    def to_json(self) -> dict[str, Any]:
        """A form for other programs."""
        problem = self.problem
        return {
            "fits": self.place.holds(self.need),
            "device": self.place.device,
            "processes": self.place.processes,
            "memory": dataclasses.asdict(self.need) | {"total": self.need.total},
            "memory_free": self.place.free,
            "memory_total": self.place.total,
            "steps": self.settings.steps,
            "epochs": round(self.epochs, 3),
            "longest": self.longest,
            "tokens_per_second": self.probe.tokens_per_second,
            "seconds": self.seconds,
            "measured_memory": self.probe.memory,
            "disk": self.disk,
            "disk_free": self.disk_free,
            "gradient_checkpointing": self.settings.gradient_checkpointing == "on",
            "checkpoint_layers": self.twice,
            "at_once": self.at_once,
            "remedy": self.remedy,
            "problem": problem.what() if problem else None,
        }


def make_plan(settings: Settings, place: DeviceMemory, store: Store, chosen: Selection) -> Plan:
    """The plan for data that are read. Raises StudioError for a model that cannot be used."""
    model = ready_model(settings.model).path
    shape = shape_of(model)
    learned = ~held_back(store.table, chosen, 0.0 if settings.validation else settings.validation_share, settings.seed)
    learned_from, trained_tokens = max(1, int(learned.sum())), int(chosen.ends[learned].sum())
    settings = in_steps(settings, learned_from, facts=store.form == "facts")

    def largest(other: Settings) -> WorstBatch:
        return _largest(other, store, chosen)

    planned, needed, changes = fit_memory(settings, shape, place, largest)
    again = (planned.checkpoint_layers or shape.layers) if planned.gradient_checkpointing == "on" else 0
    probe = look_probe(planned, place.device, store.key)
    sharing = propose_sharing(planned, model, store, chosen)
    if sharing:
        other, _, _ = fit_memory(dataclasses.replace(settings, shared_prompts=sharing.most), shape, place, largest)
        sharing = dataclasses.replace(sharing, settings=other, probe=look_probe(other, place.device, store.key))
    epochs = settings.steps * settings.batch_size * settings.accumulation / learned_from
    tokens = round(epochs * trained_tokens)
    return Plan(
        settings=planned,
        shape=shape,
        place=place,
        need=needed,
        tokens=tokens,
        learned_from=learned_from,
        trained_tokens=trained_tokens,
        trained_labels=int(chosen.labels[learned].sum()),
        held_back=int((~learned).sum()),
        mixed=chosen.mixed,
        epochs=epochs,
        fewer_steps=_fewer_steps(settings, epochs, learned_from),
        longest=int(chosen.ends.max()),
        probe=probe,
        seconds=tokens / probe.tokens_per_second if probe.tokens_per_second else None,
        disk=disk_need(planned, shape),
        disk_free=shutil.disk_usage(_existing(paths().runs)).free,
        remedy=changes,
        at_once=largest(planned).tokens,
        twice=min(again, shape.layers),
        sharing=sharing,
    )


def _fewer_steps(settings: Settings, epochs: float, learned_from: int) -> int | None:
    """The steps of `MOST_PASSES`, where there are more and nobody asked for passes."""
    fewer = max(1, MOST_PASSES * learned_from // (settings.batch_size * settings.accumulation))
    return fewer if epochs > MOST_PASSES and fewer < settings.steps and not settings.epochs else None


def in_steps(settings: Settings, conversations: int, *, facts: bool) -> Settings:
    """The settings with the steps that their passes through so many conversations are, and enough checkpoints on the
    way; as they are where they give steps."""
    if not settings.epochs:
        return settings
    passes = settings.epochs * conversations / (settings.batch_size * settings.accumulation)
    steps = min(max(round(passes), _FACT_STEPS if facts else 1), _MOST_STEPS)
    return dataclasses.replace(settings, steps=steps, save_every=min(settings.save_every, max(1, steps // _SAVES)))


def _largest(settings: Settings, store: Store, chosen: Selection) -> WorstBatch:
    """The same for data that are read: the longest conversations, and at least as much learned as on average."""
    count = settings.batch_size * (settings.accumulation if settings.packing else 1)
    ends = np.minimum(chosen.ends, settings.max_length)
    rows = np.argsort(-ends, kind="stable")[:count]
    longest = int(ends[rows[0]])
    passes = 0
    if settings.packing:
        whole, limit = int(ends[rows].sum()), pack_limit(settings, longest)
        tokens, passes = min(limit, whole), -(-whole // limit)
        if on_one_prompt(settings) > 1:
            learned = int(np.sort(store.rows["learned"][chosen.rows])[-count:].sum())
            return sharing_batch(settings, tokens, learned, whole)
        sequences = min(count, max(1, int(np.searchsorted(np.cumsum(np.sort(ends)), tokens, side="right"))))
        rows = rows[: max(1, int(np.searchsorted(np.cumsum(ends[rows]), tokens, side="right")))]
    else:
        tokens, sequences = longest * len(rows), len(rows)
    learned = sum(int(store.learned(int(chosen.rows[at]), int(ends[at])).sum()) for at in rows)
    return WorstBatch(tokens, max(learned, tokens * chosen.learned // chosen.tokens), sequences, passes)


def disk_need(settings: Settings, shape: ModelShape) -> int:
    """Bytes that the run may take: each checkpoint holds what learns and the optimizer's two numbers for each of it."""
    numbers = trained(shape, settings)
    kept = settings.keep_checkpoints + 2  # the best one, and the one that is being written
    result = (2 if settings.method == "full" else 8) * numbers
    return kept * 12 * numbers + result + (50 << 20)


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
