"""Several adapters beside one set of weights: one of them, or none, is in use, and the weights never move."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GlmForCausalLM

from glmstudio.glm.adapters.adapter_files import is_lora, load_prefix
from glmstudio.glm.adapters.lora import drop_lora, numbers, use_lora
from glmstudio.glm.adapters.lora_files import load_lora
from glmstudio.glm.adapters.prefix import Prefix, attach_prefix
from glmstudio.glm.weights.base_weights import in_words
from glmstudio.models.family import refuse_other_adapter


@dataclass(frozen=True)
class AdapterInfo:
    """What is in use, from its tensors: `kind` is base, prefix or lora; `size` the prefix's length or LoRA's rank."""

    kind: str
    sha256: str = ""
    norm: float = 0.0
    size: int = 0
    parameters: int = 0

    @property
    def fingerprint(self) -> str:
        """A short mark of it, the same for the same numbers."""
        return self.sha256[:12] or self.kind


class AdapterPool:
    """A base model and named adapters. "" is the base, which answers as if nothing had ever been put beside it."""

    def __init__(self, model: GlmForCausalLM) -> None:
        self.model = model.eval()
        self.in_use = ""
        self._own = getattr(model, "prefix", None)  # of a checkpoint with the whole model: it belongs to the base
        self._prefixes: dict[str, Prefix] = {}
        self._loras: dict[str, int] = {}
        self._folders: dict[str, Path] = {}
        self._described: dict[str, AdapterInfo] = {"": AdapterInfo("base")}

    @property
    def names(self) -> list[str]:
        """The adapters that can be used."""
        return [*self._prefixes, *self._loras]

    @property
    def weight_bytes(self) -> int:
        """What the weights take in memory."""
        return sum(each.nbytes for each in self.model.parameters())

    def add(self, name: str, folder: Path) -> None:
        """Put the prefix or LoRA adapter of `folder` beside the weights. Raises StudioError, and adds nothing then.

        A name that is there already stays what it is: two may ask for the same one at once.
        """
        if name in self.names:
            return
        with in_words(folder):
            self._add(name, folder)

    def _add(self, name: str, folder: Path) -> None:
        if is_lora(folder):
            refuse_other_adapter(folder)
            try:
                self._loras[name] = load_lora(folder, self.model, name=_inner(name)).rank
            except Exception:
                drop_lora(self.model, _inner(name))
                raise
            finally:
                self.in_use = "?"  # PEFT makes a fresh adapter the active one
                self.use("")
        else:
            self._prefixes[name] = load_prefix(folder, self.model).to(self.model.device).eval()
        self._folders[name] = folder
        before = self.in_use
        self.use(name)
        self._described[name] = self._describe(name)
        self.use(before)

    def folder(self, name: str) -> Path:
        """Where an adapter came from."""
        return self._folders[name]

    def use(self, name: str) -> None:
        """Answer with this adapter from now on."""
        if name == self.in_use:
            return
        attach_prefix(self.model, self._prefixes.get(name, self._own))
        use_lora(self.model, _inner(name) if name in self._loras else None)
        self.model.eval()
        self.in_use = name

    def describe(self, name: str) -> AdapterInfo:
        """What an adapter is, as it was computed from the tensors in the model."""
        return self._described[name]

    def _describe(self, name: str) -> AdapterInfo:
        tensors = self._tensors(name)
        digest, square, count = hashlib.sha256(), 0.0, 0
        for key in sorted(tensors):
            tensor = tensors[key].detach().float().cpu().contiguous()
            digest.update(key.encode())
            digest.update(tensor.numpy().tobytes())
            square += float(tensor.double().pow(2).sum())
            count += tensor.numel()
        lora = name in self._loras
        size = self._loras[name] if lora else self._prefixes[name].length
        return AdapterInfo("lora" if lora else "prefix", digest.hexdigest(), square**0.5, size, count)

    def _tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The numbers in the model itself, so that what is described is what answers."""
        if name in self._loras:
            return numbers(self.model, _inner(name))
        prefix: Prefix = self.model.prefix
        return dict(prefix.state_dict())


def _inner(name: str) -> str:
    """The adapter's name inside the model, where a point would part it."""
    return "a" + hashlib.sha256(name.encode()).hexdigest()[:16]
