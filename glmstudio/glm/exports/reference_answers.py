"""What the studio itself makes of the conversations that an export is checked with.

`check_conversations.json` has each twice: as a client sends it, which the other program turns into a prompt by its
template, and as the studio's own turns.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import GlmForCausalLM

from glmstudio.data.protocol.prompt import chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.families.message import Message
from glmstudio.files import read_json
from glmstudio.glm.adapters.lora import merge_lora
from glmstudio.glm.exports.outside.transformers_check import answers
from glmstudio.glm.load import load_model
from glmstudio.glm.weights.base_weights import empty_base

CONVERSATIONS = Path(__file__).parent / "texts" / "check_conversations.json"
_LENGTH, _SHORT_LENGTH, _SHORT_ASKED = 16, 4, 3
_ROOM = 1.15  # of the weights in float32, for all that is not weights

Round = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ExportSource:
    """What is exported: the model in `base`, or what lies in `learned` on it: an adapter, or a whole model."""

    base: Path
    learned: Path | None = None

    @property
    def whole(self) -> Path:
        """The folder of the whole model that the weights come from."""
        return self.base if self.learned is None or self.adapter is not None else self.learned

    @property
    def adapter(self) -> Path | None:
        """The folder of the adapter, if it is one that was learned."""
        is_adapter = self.learned is not None and (
            (self.learned / "adapter.json").is_file() or not (self.learned / "config.json").is_file()
        )
        return self.learned if is_adapter else None


@dataclass(frozen=True)
class ReferenceAnswers:
    """The studio's own: ids of each prompt; of the first `asked` of them the logits after it, the greedy answer, and by
    how much each of its tokens won. `moved` is how far rounding (and merging) moved the logits."""

    prompts: list[list[int]]
    asked: int
    length: int
    dtype: str
    logits: torch.Tensor
    answers: list[list[int]]
    leads: list[list[float]]
    moved: float


def reference_answers(
    source: ExportSource, rounded: Round | None, *, merge: bool = True, spelled: Callable[[str], str] = str
) -> ReferenceAnswers:
    """Answer with the weights that the export has: merged if `merge`, each tensor rounded as it is stored. `spelled`
    is what becomes of a text in which somebody typed a special token's name.

    In float32 where the memory holds it; else as stored, of fewer conversations, because that is slow.
    """
    tokenizer = Tokenizer(source.base)
    prompts = [chat_ids(tokenizer, [_turn(each, spelled) for each in one["turns"]]) for one in conversations()]
    large = _parameters(source.whole) * 4 * _ROOM > psutil.virtual_memory().available
    dtype, asked, length = ("float16", _SHORT_ASKED, _SHORT_LENGTH) if large else ("float32", len(prompts), _LENGTH)
    model = load_model(source.whole, source.adapter, dtype=getattr(torch, dtype), device="cpu")
    before = answers(model, prompts[:asked], tokenizer.stop_ids, 0)["logits"]
    if merge and source.adapter is not None and getattr(model, "lora", None) is not None:
        merge_lora(model)
    if rounded is not None:
        _round(model, rounded)
    found = answers(model, prompts[:asked], tokenizer.stop_ids, length)
    moved = float((found["logits"] - before).abs().max())
    del model
    gc.collect()  # before the other program loads the same
    return ReferenceAnswers(prompts, asked, length, dtype, moved=moved, **found)


def conversations() -> list[dict[str, Any]]:
    """The conversations that every export is checked with."""
    found: list[dict[str, Any]] = read_json(CONVERSATIONS, [])
    return found


def _turn(row: list[Any], spelled: Callable[[str], str]) -> Message:
    """A turn in words that belong to no family, which its family then writes."""
    turn = Message.from_json(row)
    given = turn.arguments
    return replace(
        turn, content=spelled(turn.content), metadata=spelled(turn.metadata), tools=spelled(turn.tools),
        arguments=None if given is None else json.loads(spelled(json.dumps(given, ensure_ascii=False))),
    )  # fmt: skip


def _round(model: GlmForCausalLM, rounded: Round) -> None:
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "lora_" not in name and not name.startswith("prefix."):  # what stands beside the model is kept as it is
                each.data = rounded(each.data).to(each.dtype)


def _parameters(folder: Path) -> int:
    return sum(each.numel() for each in empty_base(folder).parameters())
