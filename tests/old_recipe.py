"""How the original fine-tuning demo trained ChatGLM3 with P-Tuning v2, in plain PyTorch: an independent witness.

Nothing here comes from `glmstudio.glm`, `glmstudio.train` or transformers: the forward pass runs on the published
tensors under their published names, and the training loop spells out what the original left to its libraries. Kept are
its wastes, too: every sample is padded to the maximum length and the padding attends and is attended to, a dense mask,
keys and values expanded to all heads, every layer computed twice, logits in float32 for all positions.

Sources: `finetune_chatmodel_demo` of the ChatGLM3 repository before 2024-01-27 and the model code of December 2023, as
`docs/model.md` describes them. `tests/golden/expected.json` holds numbers of that code, and these must equal them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

PAD, IGNORED = 0, -100
PREFIX = "transformer.prefix_encoder."


@dataclass(frozen=True)
class Recipe:
    """What the original's scripts and its trainer's defaults fix."""

    steps: int
    max_length: int
    accumulation: int = 16
    batch_size: int = 1
    learning_rate: float = 2e-2
    max_grad_norm: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Sample:
    """One tokenised conversation; `labels[i]` is `input_ids[i]` where it is learned, else -100."""

    input_ids: list[int]
    labels: list[int]


class PrefixEncoder(nn.Module):
    """The table (P, layers * 2 * groups * kv_channels), or a table that goes through Linear, Tanh, Linear."""

    def __init__(self, config: dict[str, Any], length: int, *, projection: bool) -> None:
        super().__init__()
        width = config["num_layers"] * 2 * _groups(config) * config["kv_channels"]
        self.embedding = nn.Embedding(length, width)
        if projection:
            hidden = config["hidden_size"]
            self.trans = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))

    def forward(self) -> torch.Tensor:
        """(P, layers * 2 * groups * kv_channels)."""
        table = self.embedding(torch.arange(self.embedding.num_embeddings, device=self.embedding.weight.device))
        return self.trans(table) if hasattr(self, "trans") else table


class ChatGLM(nn.Module):
    """The forward pass of the published layout, with a prefix or without; the base weights are frozen.

    `kind` is the type of the weights, float16 in the original; the prefix is float32.
    """

    def __init__(
        self,
        folder: Path,
        prefix: PrefixEncoder | None = None,
        dropout: float = 0.1,
        *,
        device: str = "cpu",
        kind: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.weights = {name: tensor.to(device, kind) for name, tensor in _read(folder).items()}
        self.device, self.kind = device, kind
        self.prefix_encoder = None if prefix is None else prefix.to(device)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, vocabulary) in float32 for ids (B, T), padding or not."""
        batch, length = ids.shape
        hidden = functional.embedding(ids, self.weights["transformer.embedding.word_embeddings.weight"])
        angles = self._angles(length)
        hidden_from = self._hidden_from(batch, length)
        past = self._past(batch)
        for number in range(self.config["num_layers"]):
            given = (number, hidden, angles, hidden_from, None if past is None else past[number])
            hidden = checkpoint(self._layer, *given, use_reentrant=False) if self.training else self._layer(*given)
        hidden = self._norm(hidden, "transformer.encoder.final_layernorm.weight")
        return functional.linear(hidden, self.weights["transformer.output_layer.weight"]).float()

    def read(
        self, ids: torch.Tensor, cache: list[tuple[torch.Tensor, torch.Tensor]] | None
    ) -> tuple[torch.Tensor, Any]:
        """As the demo's chat read a prompt, and then token after token: the last logits (V), and the cache of every
        layer with the new keys and values put behind the old ones."""
        before = cache[0][0].shape[2] if cache else 0
        hidden = functional.embedding(ids, self.weights["transformer.embedding.word_embeddings.weight"])
        angles = self._angles(before + ids.shape[1])[before:]
        after = []
        for number in range(self.config["num_layers"]):
            name = f"transformer.encoder.layers.{number}."
            normed = self._norm(hidden, f"{name}input_layernorm.weight")
            hidden_from = None if cache else self._hidden_from(1, ids.shape[1])
            mixed, pair = self._attention(name, normed, angles, hidden_from, cache[number] if cache else None)
            hidden = self._fed_forward(name, hidden + mixed)
            after.append(pair)
        hidden = self._norm(hidden[:, -1:], "transformer.encoder.final_layernorm.weight")
        return functional.linear(hidden, self.weights["transformer.output_layer.weight"]).float()[0, -1], after

    def loss(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean over all learned tokens of (B, T)."""
        logits = self(ids)
        scored, wanted = logits[:, :-1].contiguous(), labels[:, 1:].contiguous()
        return functional.cross_entropy(scored.view(-1, scored.shape[-1]), wanted.view(-1), ignore_index=IGNORED)

    def _layer(
        self,
        number: int,
        hidden: torch.Tensor,
        angles: torch.Tensor,
        hidden_from: torch.Tensor,
        past: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        """One transformer block on (B, T, H)."""
        name = f"transformer.encoder.layers.{number}."
        normed = self._norm(hidden, f"{name}input_layernorm.weight")
        return self._fed_forward(name, hidden + self._attention(name, normed, angles, hidden_from, past)[0])

    def _fed_forward(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        normed = self._norm(hidden, f"{name}post_attention_layernorm.weight")
        gate, up = functional.linear(normed, self.weights[f"{name}mlp.dense_h_to_4h.weight"]).chunk(2, dim=-1)
        return hidden + functional.linear(functional.silu(gate) * up, self.weights[f"{name}mlp.dense_4h_to_h.weight"])

    def _attention(
        self,
        name: str,
        normed: torch.Tensor,
        angles: torch.Tensor,
        hidden_from: torch.Tensor | None,
        past: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """(B, T, H) to (B, T, H), and all keys and values; one product makes queries, keys and values."""
        batch, length, _ = normed.shape
        heads, groups, width = self.config["num_attention_heads"], _groups(self.config), self.config["kv_channels"]
        mixed = functional.linear(
            normed,
            self.weights[f"{name}self_attention.query_key_value.weight"],
            self.weights[f"{name}self_attention.query_key_value.bias"],
        ).view(batch, length, heads + 2 * groups, width)
        query, key, value = mixed.transpose(1, 2).split([heads, groups, groups], dim=1)  # (B, heads or groups, T, D)
        query, key = _rotated(query, angles), _rotated(key, angles)
        if past is not None:  # learned as it is used: no angle is put on it
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        both = key, value
        key, value = (each.repeat_interleave(heads // groups, dim=1) for each in both)
        mask = None if hidden_from is None else ~hidden_from
        mixed = functional.scaled_dot_product_attention(query, key, value, mask)
        mixed = mixed.transpose(1, 2).reshape(batch, length, heads * width)
        return functional.linear(mixed, self.weights[f"{name}self_attention.dense.weight"]), both

    def _past(self, batch: int) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
        """Keys and values (B, groups, P, D) of every layer."""
        if self.prefix_encoder is None:
            return None
        layers, groups, width = self.config["num_layers"], _groups(self.config), self.config["kv_channels"]
        table = self.prefix_encoder().to(self.kind).unsqueeze(0).expand(batch, -1, -1)
        table = self.dropout(table.reshape(batch, -1, layers * 2, groups, width)).permute(2, 0, 3, 1, 4)
        return [(table[2 * number], table[2 * number + 1]) for number in range(layers)]

    def _hidden_from(self, batch: int, length: int) -> torch.Tensor:
        """True where a query (B, 1, T, P + T) must not look: what comes later. Padding is not told apart."""
        prefix = 0 if self.prefix_encoder is None else self.prefix_encoder.embedding.num_embeddings
        seen = torch.cat([torch.ones(length, prefix), torch.ones(length, length).tril()], dim=1)
        return (seen < 0.5).to(self.device).expand(batch, 1, -1, -1)

    def _angles(self, length: int) -> torch.Tensor:
        """Cosine and sine (T, D / 4, 2) for half of a head's numbers, taken in neighbouring pairs."""
        turned = self.config["kv_channels"] // 2
        base = 10000.0 * self.config.get("rope_ratio", 1)
        frequencies = 1.0 / base ** (torch.arange(0, turned, 2).float() / turned)
        angle = torch.outer(torch.arange(length).float(), frequencies)
        return torch.stack([angle.cos(), angle.sin()], dim=-1).to(self.device, self.kind)

    def _norm(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        wide = hidden.float()
        square = wide.pow(2).mean(-1, keepdim=True)
        return self.weights[name] * (wide * torch.rsqrt(square + self.config["layernorm_epsilon"])).to(self.kind)


def train(model: ChatGLM, samples: Sequence[Sample], recipe: Recipe) -> list[float]:
    """Train the prefix on `samples` in their order; returns the loss of each step, before it changed anything.

    A step is the mean over its batches of each batch's mean loss.
    """
    assert model.prefix_encoder is not None
    learned = list(model.prefix_encoder.parameters())
    optimizer = torch.optim.AdamW(
        learned, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon, weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / recipe.steps))
    rows = [padded(sample, recipe.max_length) for sample in samples]
    losses, at = [], 0
    model.train()
    for _ in range(recipe.steps):
        total = 0.0
        for _ in range(recipe.accumulation):
            batch = rows[at : at + recipe.batch_size]
            at += recipe.batch_size
            ids, labels = (torch.tensor([row[side] for row in batch], device=model.device) for side in (0, 1))
            loss = model.loss(ids, labels)
            (loss / recipe.accumulation).backward()
            total += loss.item() / recipe.accumulation
        nn.utils.clip_grad_norm_(learned, recipe.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total)
    model.eval()
    return losses


def padded(sample: Sample, length: int) -> tuple[list[int], list[int]]:
    """Ids and labels of exactly `length`: cut, or filled up with id 0, which is never learned."""
    missing = length - len(sample.input_ids)
    return (sample.input_ids + [PAD] * missing)[:length], (sample.labels + [IGNORED] * missing)[:length]


def save(model: ChatGLM, folder: Path) -> None:
    """The checkpoint that the original wrote: the learned tensors alone, and the configuration with the prefix."""
    assert model.prefix_encoder is not None
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {PREFIX + name: tensor.clone() for name, tensor in model.prefix_encoder.state_dict().items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    about = {
        "pre_seq_len": model.prefix_encoder.embedding.num_embeddings,
        "prefix_projection": hasattr(model.prefix_encoder, "trans"),
    }
    (folder / "config.json").write_text(json.dumps(model.config | about), encoding="utf-8")


def load(base: Path, checkpoint_folder: Path, dropout: float = 0.1) -> ChatGLM:
    """The model of `base` with the prefix of a checkpoint; its `config.json` says how long it is, as the demo read it."""
    config = json.loads((checkpoint_folder / "config.json").read_text(encoding="utf-8"))
    prefix = PrefixEncoder(config, config["pre_seq_len"], projection=config["prefix_projection"])
    found = torch.load(checkpoint_folder / "pytorch_model.bin", weights_only=True)
    prefix.load_state_dict({name.removeprefix(PREFIX): found[name] for name in found if name.startswith(PREFIX)})
    return ChatGLM(base, prefix, dropout).eval()


def _rotated(states: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """(B, heads, T, D) with the first half of D turned, pair by pair, as complex numbers are."""
    turned = 2 * angles.shape[1]
    pairs = states[..., :turned].unflatten(-1, (-1, 2))
    real, imaginary = pairs.unbind(-1)
    cos, sin = angles.unbind(-1)
    pairs = torch.stack([real * cos - imaginary * sin, imaginary * cos + real * sin], dim=-1)
    return torch.cat([pairs.flatten(-2), states[..., turned:]], dim=-1)


def _groups(config: dict[str, Any]) -> int:
    return int(config["multi_query_group_num"] if config["multi_query_attention"] else config["num_attention_heads"])


def _read(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*model*.safetensors")):
        tensors |= load_file(file)
    for file in [] if tensors else sorted(folder.glob("pytorch_model*.bin")):
        tensors |= torch.load(file, weights_only=True)
    return tensors
