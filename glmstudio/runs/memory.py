"""How much memory a run needs, by arithmetic alone: from the model's shape, the settings, and the largest batch.

Every term says what PyTorch's autograd keeps for the backward pass of `GlmForCausalLM` as this program trains it. The
figures are checked against real training steps in `tests/test_memory.py` and `tests/bench/plan_memory.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from glmstudio.runs.settings import Settings
from glmstudio.runs.shape import Shape
from glmstudio.runs.sharing import held

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
FIXED = {"cpu": 500_000_000, "cuda": 700_000_000}  # Python and its libraries; a card's context and its workspaces
# 8 bits: one factor for each row. 4 bits: one float32 factor for each 64 weights.
_QUANTISED = {"8": 1.0, "4": 0.5 + 4 / 64}


@dataclass(frozen=True)
class Need:
    """Bytes of one process at the peak of a step, by what they are for.

    `activations` is what the backward pass needs, and the intermediate results of the layer where the peak is; `logits`
    is the head's and the loss's share of that peak; `fixed` is there before a model is; `host` is what a run on a card
    puts into main memory.
    """

    weights: int
    adapter: int
    optimizer: int
    gradients: int
    activations: int
    logits: int
    fixed: int
    host: int = 0

    @property
    def total(self) -> int:
        """All of it that lies where it is computed."""
        return sum(int(getattr(self, each.name)) for each in fields(self)) - self.host


@dataclass(frozen=True)
class Computing:
    """How it is computed: "cpu" or "cuda"; in "float32", "bfloat16" or "float16"; by how many processes in all.

    Full fine-tuning holds float32 weights all the same.
    """

    device: str
    dtype: str
    processes: int = 1


def need(shape: Shape, settings: Settings, *, tokens: int, learned: int, on: Computing) -> Need:
    """What each process needs on its card, or on the CPU: live bytes. What an allocator holds beyond them comes on top.

    Args:
        shape: The model's.
        settings: Method, batch size, accumulation, prefix, LoRA, bits of the base, engine; `gradient_checkpointing`
            counts as off unless it is "on".
        tokens: In the largest batch, padding included: `settings.batch_size` times its longest conversation.
        learned: The positions of that batch which are scored.
        on: How it is computed.
    """
    batch = _Batch(shape, settings, tokens, on)
    count = trained(shape, settings)
    whole = settings.method == "full"
    kept, layer, head = batch.kept(), batch.layer_work(), batch.head_work(learned)
    if settings.engine != "ddp" and whole:
        return _divided(shape, batch, on, kept + max(0, layer - head), head)
    gradients = 4 * count
    if whole and settings.accumulation <= on.processes:
        # No gradient is left from an earlier batch: they come as the activations go, the head's first.
        early = 4 * shape.vocab * shape.hidden
        kept = max(kept, gradients - early) - (gradients - early)
    return Need(
        weights=_weights(shape, settings, batch),
        adapter=0 if whole else 4 * count,
        optimizer=8 * count,
        gradients=gradients * (2 if on.processes > 1 else 1),  # DDP collects them in buckets to send them
        activations=kept + max(0, layer - head),
        logits=head,
        fixed=FIXED[on.device],
    )


def _divided(shape: Shape, batch: _Batch, on: Computing, activations: int, logits: int) -> Need:
    """A model that an engine divides among the processes."""
    layer = sum(a * b for a, b in shape.linear.values())
    share = held(
        batch.settings.engine,
        parameters=shape.parameters,
        largest=max(layer, shape.vocab * shape.hidden),
        size=batch.size,
        processes=on.processes,
    )
    on_card = on.device != "cpu"
    return Need(
        weights=share.weights + (0 if on_card else share.host),
        adapter=0,
        optimizer=share.optimizer,
        gradients=share.gradients,
        activations=activations,
        logits=logits,
        fixed=FIXED[on.device],
        host=share.host if on_card else 0,
    )


def trained(shape: Shape, settings: Settings) -> int:
    """How many numbers learn."""
    if settings.method == "full":
        return shape.parameters
    if settings.method == "lora":
        return shape.layers * sum(settings.lora_rank * sum(shape.linear[name]) for name in _targets(settings))
    width = 2 * shape.layers * shape.shared
    count = settings.prefix_length * width
    if settings.prefix_projection:
        count += (width + 1) * shape.hidden + (shape.hidden + 1) * width
    return count


def _targets(settings: Settings) -> tuple[str, ...]:
    attention = ("q_proj", "k_proj", "v_proj")
    return (*attention, "o_proj", "gate_up_proj", "down_proj") if settings.lora_targets == "all" else attention


def _weights(shape: Shape, settings: Settings, batch: _Batch) -> int:
    if settings.method == "full":
        return (4 + (batch.size if batch.amp else 0)) * shape.parameters  # and the copies in which it computes
    if settings.base_bits in _QUANTISED:
        rest = shape.parameters - shape.linear_parameters
        return int(shape.linear_parameters * _QUANTISED[settings.base_bits]) + batch.size * rest
    return batch.size * shape.parameters


class _Batch:
    """What one forward and backward pass over the largest batch keeps and works with, in bytes."""

    def __init__(self, shape: Shape, settings: Settings, tokens: int, on: Computing) -> None:
        self.shape, self.settings, self.tokens, self.cuda = shape, settings, tokens, on.device == "cuda"
        self.size = BYTES[on.dtype]
        self.prefix = settings.prefix_length if settings.method == "ptuning_v2" else 0
        self.length = -(-tokens // settings.batch_size)
        # An engine that divides the model computes in 16 bits throughout; else autocast turns to them and back.
        self.amp = self.cuda and settings.method == "full" and self.size == 2 and settings.engine == "ddp"
        self.learner = 2 if on.dtype == "float16" else 4  # LoRA's matrices are float32; only float16 has autocast
        # Only the flash kernel and the plain one take grouped keys (PyTorch's documentation). float32 has no flash
        # kernel, and who takes float16 has a card without it, so the whole matrix of scores is kept. The prefix's own
        # attention expands its keys, which every kernel takes.
        self.matrix = self.cuda and not self.prefix and on.dtype != "bfloat16"

    def kept(self) -> int:
        """What stays from the forward pass until the backward pass comes to it, without the head."""
        final = 4 * self.tokens * self.shape.hidden * (2 if self.settings.method == "full" else 1)
        if self.settings.gradient_checkpointing == "on":
            layers = self.shape.layers * self.tokens * self.shape.hidden * (4 if self.amp else self.size)
        else:
            first = self._layer(flows=self.settings.method == "full")
            layers = first + (self.shape.layers - 1) * self._layer(flows=True)
        return layers + final + self._prefix()

    def layer_work(self) -> int:
        """What comes and goes while the gradient passes through one layer: the MLP's three products, the stream's."""
        shape = self.shape
        work = self.size * self.tokens * (3 * shape.ffn + 2 * shape.hidden)
        if self.settings.gradient_checkpointing == "on":
            work += self._layer(flows=True)
        if self.settings.method == "full":
            work += 4 * 2 * shape.ffn * shape.hidden  # a gradient before it is added to the others
        if self.settings.base_bits in _QUANTISED and self.settings.method != "full":
            work += self.size * 2 * shape.ffn * shape.hidden  # a weight while it is used
        return work + (2 * self._scores() if self.matrix else 0)

    def head_work(self, learned: int) -> int:
        """The loss: log-probabilities in float32, their gradient, and the gradient of the logits."""
        work = 12 * learned * self.shape.vocab
        if self.settings.method == "full":
            work += learned * self.shape.hidden * self.size + 4 * self.shape.vocab * self.shape.hidden
        return work

    def _layer(self, *, flows: bool) -> int:
        """What autograd keeps of one layer; `flows`: whether the layer's input has a gradient (the first one's has
        not, where the embeddings do not learn)."""
        shape, tokens = self.shape, self.tokens
        norms = 4 * tokens * shape.hidden * (2 if flows else 1)  # their input in float32
        swiglu = self.size * 3 * tokens * shape.ffn  # gate, up, and the gate's activation
        extra = {"lora": self._lora, "full": self._full}.get(self.settings.method)
        return norms + swiglu + self._attention() + (extra(flows) if extra else 0)

    def _attention(self) -> int:
        """Queries, keys, values and the result; the softmax's sums; the rotary angles."""
        shape, tokens = self.shape, self.tokens
        seen = tokens + self.prefix * self.settings.batch_size
        wide = shape.inner if self.prefix else shape.shared  # the prefix's attention expands them to all heads
        kept = self.size * (2 * tokens * shape.inner + 2 * seen * wide + self.length * shape.head_dim)
        kept += 4 * tokens * shape.heads
        if self.matrix:
            kept += self._scores() + 4 * tokens * 3 * shape.inner
        if self.prefix and not self.cuda:
            kept += self.size * self.length * (self.length + self.prefix)  # the mask, once more in the model's type
        return kept

    def _lora(self, flows: bool) -> int:
        """LoRA keeps its input, after dropout, for each layer that it stands beside, and what dropout left out."""
        shape, settings, tokens = self.shape, self.settings, self.tokens
        targets = _targets(settings)
        kept = len(targets) * tokens * settings.lora_rank * self.learner
        widths = [shape.linear[name][0] for name in targets]
        if settings.lora_dropout:
            kept += tokens * sum(widths) * self.learner
            masked = [width for name, width in zip(targets, widths, strict=True) if flows or name[0] not in "qkv"]
            return kept + tokens * sum(masked) * (1 if self.cuda else 4)
        if self.size != self.learner:
            return kept + tokens * sum(widths) * self.learner
        alone = {shape.linear[name][0] if name[0] in "qkv" else name: shape.linear[name][0] for name in targets}
        return kept + tokens * sum(alone.values()) * self.size  # queries, keys and values have one input

    def _full(self, _: bool) -> int:
        """Layers that learn keep their inputs, and norms what they scale."""
        shape, tokens = self.shape, self.tokens
        if self.amp:  # the stream is float32; each product takes a copy in 16 bits
            return tokens * (4 * 2 * shape.hidden + self.size * (4 * shape.hidden + shape.ffn))
        turned = 0 if self.cuda else tokens * shape.inner  # the CPU's kernel has heads before positions
        return self.size * (tokens * (4 * shape.hidden + shape.ffn) + turned)

    def _scores(self) -> int:
        return 4 * self.tokens * self.shape.heads * self.length

    def _prefix(self) -> int:
        """The prefix of every sequence after dropout, what dropout left out, and its gradients on their way."""
        if not self.prefix:
            return 0
        settings, shape = self.settings, self.shape
        width = 2 * shape.layers * shape.shared
        once = self.prefix * width
        copies = settings.batch_size * once if settings.prefix_dropout else 0
        kept = copies * (self.size + (1 if self.cuda else 4)) + 2 * settings.batch_size * once * self.size
        if settings.prefix_projection:
            kept += 4 * 2 * (self.prefix * shape.hidden + once)
        return kept
