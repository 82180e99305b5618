"""How much memory a run needs, by arithmetic alone: from the model's shape, the settings, and the largest batch.

Every term says what PyTorch's autograd keeps for the backward pass of a GLM as this program trains it. The
figures are checked against real training steps in `tests/test_memory.py` and `tests/bench/plan_memory.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from glmstudio.config.settings import LOSS_CHUNK, Settings
from glmstudio.planning.model_shape import ModelShape
from glmstudio.planning.sharded_memory import held

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
FIXED = {"cpu": 500_000_000, "cuda": 700_000_000}  # Python and its libraries; a GPU's context and its workspaces
_QUANTISED = ("8", "4")


@dataclass(frozen=True)
class Need:
    """Bytes of one process at the peak of a step, by what they are for.

    `activations` is what the backward pass needs, and the intermediate results of the layer where the peak is; `logits`
    is the head's and the loss's share of that peak; `fixed` is there before a model is; `host` is what a run on a GPU
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


@dataclass(frozen=True)
class WorstBatch:
    """The largest thing that is computed at once, a pack or a batch: its `tokens`, padding included, how many of them
    are `learned`, and its conversations (`sequences`). `passes`: how many such a step has at most, over all processes;
    0 stands for `accumulation`. `common`: tokens of prompts that stand there once, but whose keys and values each
    conversation on them has for itself."""

    tokens: int
    learned: int
    sequences: int = 1
    passes: int = 0
    common: int = 0


def need(shape: ModelShape, settings: Settings, largest: WorstBatch, on: Computing) -> Need:
    """What each process needs on its GPU, or on the CPU: live bytes. What an allocator holds beyond them comes on top.

    Args:
        shape: The model's.
        settings: Method, packing, prefix, LoRA, bits of the base, engine, accumulation; `gradient_checkpointing`
            counts as off unless it is "on".
        largest: What is computed at once at most.
        on: How it is computed.
    """
    batch = _Batch(shape, settings, largest, on)
    count = trained(shape, settings)
    whole = settings.method == "full"
    kept, layer, head = batch.kept(), batch.layer_work(), batch.head_work()
    if settings.engine != "ddp" and whole:
        return _divided(shape, batch, on, kept + max(0, layer - head), head)
    gradients = 4 * count
    if whole and (largest.passes or settings.accumulation) <= on.processes:
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


def _divided(shape: ModelShape, batch: _Batch, on: Computing, activations: int, logits: int) -> Need:
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


def trained(shape: ModelShape, settings: Settings) -> int:
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


def _weights(shape: ModelShape, settings: Settings, batch: _Batch) -> int:
    if settings.method == "full":
        return (4 + (batch.size if batch.amp else 0)) * shape.parameters  # and the copies in which it computes
    if settings.base_bits in _QUANTISED:
        rest = shape.parameters - shape.linear_parameters
        # 8 bits have a factor for each row; 4 bits a factor and an offset for each 64 numbers.
        each = 1.0 if settings.base_bits == "8" else 0.5 + 2 * batch.size / 64
        return int(shape.linear_parameters * each) + batch.size * rest
    return batch.size * shape.parameters


class _Batch:
    """What one forward and backward pass over the largest pack or batch keeps and works with, in bytes."""

    def __init__(self, shape: ModelShape, settings: Settings, largest: WorstBatch, on: Computing) -> None:
        self.shape, self.settings, self.cuda = shape, settings, on.device == "cuda"
        self.tokens, self.learned, self.sequences = largest.tokens, largest.learned, largest.sequences
        self.common = largest.common
        self.size = BYTES[on.dtype]
        self.prefix = settings.prefix_length if settings.method == "ptuning_v2" else 0
        # An engine that divides the model computes in 16 bits throughout; else autocast turns to them and back.
        self.amp = self.cuda and settings.method == "full" and self.size == 2 and settings.engine == "ddp"
        self.learner = 2 if on.dtype == "float16" else 4  # LoRA's matrices are float32; only float16 has autocast
        # Who takes float16 has a GPU without the flash kernel, and float32 has none: keys are expanded to all heads.
        self.grouped = not self.cuda or on.dtype == "bfloat16"

    @property
    def repeated(self) -> int:
        """How many layers, the first ones, are computed twice."""
        if self.settings.gradient_checkpointing != "on":
            return 0
        return min(self.settings.checkpoint_layers or self.shape.layers, self.shape.layers)

    def kept(self) -> int:
        """What stays from the forward pass until the backward pass comes to it, without the head."""
        shape, whole = self.shape, self.settings.method == "full"
        stream = self._stream() * self.tokens * shape.hidden
        layers = self.repeated * stream + (shape.layers - self.repeated) * self._layer(flows=True)
        if not self.repeated:
            layers += self._layer(flows=whole) - self._layer(flows=True)
        positions = self.tokens if self.settings.packing else -(-self.tokens // self.sequences)
        angles = int(4 * shape.head_dim * shape.turned) * positions
        return layers + stream + angles + self._prefix()

    def layer_work(self) -> int:
        """What comes and goes while the gradient passes through one layer: the MLP's, and the stream's."""
        shape = self.shape
        work = self.size * self.tokens * (4 * shape.ffn + 2 * shape.hidden)
        if self.repeated == shape.layers:  # else the last layers, which are not computed again, leave room for it
            work += self._layer(flows=True)
        if self.settings.method == "full":
            work += 4 * 2 * shape.ffn * shape.hidden  # a gradient before it is added to the others
        if self.settings.base_bits in _QUANTISED and self.settings.method != "full":
            work += self.size * 2 * shape.ffn * shape.hidden  # a weight while it is used
        return work

    def head_work(self) -> int:
        """The loss: logits and log-probabilities of a chunk of the learned rows, and the gradients of all of them."""
        shape = self.shape
        chunk = max(1, min(self.learned, LOSS_CHUNK // shape.vocab))
        work = (4 + self.size) * chunk * shape.vocab + (4 + self.size) * self.learned * shape.hidden
        if self.settings.method == "full":
            work += (4 + (self.size if self.amp else 0)) * shape.vocab * shape.hidden
        return work

    def _stream(self) -> int:
        """Bytes of a number in the residual stream."""
        return 4 if self.amp else self.size

    def _layer(self, *, flows: bool) -> int:
        """What autograd keeps of one layer; `flows`: whether the layer's input has a gradient (the first one's has
        not, where the embeddings do not learn)."""
        shape, tokens = self.shape, self.tokens
        norms = tokens * (self._stream() * shape.hidden + 4) * (2 if flows else 1)
        norms += tokens * (self.size * shape.hidden + 4) * (shape.norms - 2)  # those of a branch, before it is added
        swiglu = self.size * 2 * tokens * shape.ffn
        extra = {"lora": self._lora, "full": self._full}.get(self.settings.method)
        return norms + swiglu + self._attention() + (extra(flows) if extra else 0)

    def _attention(self) -> int:
        """Queries, keys, values and the result; the softmax's sums."""
        shape, tokens = self.shape, self.tokens
        seen = tokens + self.prefix * self.sequences + self.common
        queries = tokens if self.cuda else seen  # the CPU's kernel takes as many queries as keys
        kept = self.size * 2 * (queries * shape.inner + seen * (shape.shared if self.grouped else shape.inner))
        return kept + 4 * queries * shape.heads

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
        alone |= {"o_proj": self._joined()} if "o_proj" in alone else {}
        return kept + tokens * sum(alone.values()) * self.size  # queries, keys and values have one input

    def _full(self, _: bool) -> int:
        """Layers that learn keep their inputs."""
        shape, tokens = self.shape, self.tokens
        # Each product takes a copy of its own in 16 bits; else queries, keys and values have one input.
        inputs = 4 if self.amp else 2
        return self.size * tokens * (inputs * shape.hidden + self._joined() + shape.ffn)

    def _joined(self) -> int:
        """The width of a copy of the attention's result: where the documents of a pack are computed one by one."""
        return self.shape.inner if self.settings.packing and self.sequences > 1 and not self.cuda else 0

    def _prefix(self) -> int:
        """The prefix of every sequence after dropout, what dropout left out, and its gradients on their way."""
        if not self.prefix:
            return 0
        settings, shape = self.settings, self.shape
        width = 2 * shape.layers * shape.shared
        once = self.prefix * width
        copies = self.sequences * once if settings.prefix_dropout else 0
        kept = copies * (self.size + (1 if self.cuda else 4)) + 2 * self.sequences * once * self.size
        if settings.prefix_projection:
            kept += 4 * 2 * (self.prefix * shape.hidden + once)
        return kept
