"""The sizes of a GLM, as its `config.json` tells them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import read_json
from glmstudio.models.family import refuse_impossible

_PUBLISHED = {
    "layers": "num_layers", "hidden": "hidden_size", "ffn": "ffn_hidden_size", "heads": "num_attention_heads",
    "groups": "multi_query_group_num", "head_dim": "kv_channels", "vocab": "padded_vocab_size",
}  # fmt: skip
_NATIVE = {
    "layers": "num_hidden_layers", "hidden": "hidden_size", "ffn": "intermediate_size", "heads": "num_attention_heads",
    "groups": "num_key_value_heads", "head_dim": "head_dim", "vocab": "vocab_size",
}  # fmt: skip


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a GLM: `hidden` wide, `heads` query heads that share `groups` keys and values of `head_dim`.

    What the families differ in: `norms` of a block, `biased` queries, keys and values, the share of each head that is
    `turned` by its position, and a head that is `tied` to the embedding.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    groups: int
    head_dim: int
    vocab: int
    norms: int = 2
    biased: bool = True
    turned: float = 0.5
    tied: bool = False

    @property
    def inner(self) -> int:
        """The width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def shared(self) -> int:
        """The width of all keys, which is that of all values."""
        return self.groups * self.head_dim

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one block: name -> (in, out)."""
        return {
            "q_proj": (self.hidden, self.inner),
            "k_proj": (self.hidden, self.shared),
            "v_proj": (self.hidden, self.shared),
            "o_proj": (self.inner, self.hidden),
            "gate_up_proj": (self.hidden, 2 * self.ffn),
            "down_proj": (self.ffn, self.hidden),
        }

    @property
    def linear_parameters(self) -> int:
        """The numbers in the linear layers of all blocks, without biases: what can be quantised."""
        return self.layers * sum(a * b for a, b in self.linear.values())

    @property
    def parameters(self) -> int:
        """All numbers of the model; 6,243,584,000 for ChatGLM3-6B."""
        biases = self.inner + 2 * self.shared if self.biased else 0
        small = self.layers * (biases + self.norms * self.hidden) + self.hidden
        return self.linear_parameters + small + (1 if self.tied else 2) * self.vocab * self.hidden


def shape_of(model_folder: Path) -> ModelShape:
    """The shape in a folder's `config.json`, in the published layout or transformers' own. Raises StudioError."""
    file = model_folder / "config.json"
    if not file.is_file():
        raise StudioError("models.no_config", folder=str(model_folder))
    config = read_json(file)
    if not isinstance(config, dict):
        raise StudioError("models.bad_json", file=str(file))
    refuse_impossible(file, config)
    kind = config.get("model_type")
    names = _PUBLISHED if kind == "chatglm" else _NATIVE
    if names is _PUBLISHED and not config.get("multi_query_attention"):
        config = config | {"multi_query_group_num": config.get("num_attention_heads")}
    missing = [name for name in names.values() if not isinstance(config.get(name), int)]
    if missing:
        raise StudioError("models.config_incomplete", file=str(file), names=", ".join(missing))
    sizes: dict[str, Any] = {own: int(config[name]) for own, name in names.items()}
    shape = ModelShape(**sizes)
    if names is _PUBLISHED:
        return shape
    rope = config.get("rope_parameters")
    share = (rope if isinstance(rope, dict) else {}).get("partial_rotary_factor", config.get("partial_rotary_factor"))
    return replace(
        shape,
        norms=4 if kind == "glm4" else 2,
        biased=config.get("attention_bias", True) is True,
        turned=float(share) if isinstance(share, (int, float)) and 0 < share <= 1 else shape.turned,
        tied=config.get("tie_word_embeddings") is True,
    )
