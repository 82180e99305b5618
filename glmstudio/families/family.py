"""What a family is: its tokens, how a turn is written, and how a call is written and read back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glmstudio.families.message import Frame, Message

SENTENCEPIECE, BYTE_BPE = "sentencepiece", "byte-bpe"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")


@dataclass(frozen=True)
class Family(ABC):
    """One family of models. Special tokens are given by their names: they are numbered behind the vocabulary.

    `vocabulary` and `rows` are the tokens and the rows of the embedding of the published models; `golden` are texts
    and their ids in that vocabulary. `control` are pieces inside of the vocabulary that text never becomes.
    """

    name: str
    title: str
    tokenizer: str  # SENTENCEPIECE or BYTE_BPE
    vocabulary: int
    rows: int
    special: tuple[str, ...]
    start: tuple[str, ...]  # what begins every sequence
    end: str  # what ends a text
    pad: str
    stops: tuple[str, ...]  # what ends an answer
    control: Mapping[str, int] = field(default_factory=dict, hash=False)
    golden: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    newline_apart: bool = False  # whether a turn's first line is tokenized apart from its content
    parallel: bool = False  # whether calls of one breath stand before all of their results
    knows_tools: bool = True  # whether the published models were trained to call tools
    thinks: bool = False  # whether an answer begins with a thought
    answer_begins: str = ""  # text behind the assistant's token in a prompt

    def ids(self, size: int) -> dict[str, int]:
        """The special tokens' ids behind a vocabulary of `size` tokens, and the control pieces inside of it."""
        return {name: size + place for place, name in enumerate(self.special)} | dict(self.control)

    def id_of(self, name: str, size: int | None = None) -> int:
        """The id of a special token or control piece behind `size` tokens, those of the published vocabulary if
        None."""
        return self.ids(self.vocabulary if size is None else size)[name]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end an answer, in the published vocabulary."""
        return tuple(map(self.id_of, self.stops))

    @property
    def start_ids(self) -> tuple[int, ...]:
        """The ids that begin every sequence, in the published vocabulary."""
        return tuple(map(self.id_of, self.start))

    @property
    def pad_id(self) -> int:
        """The id that fills up a batch, in the published vocabulary."""
        return self.id_of(self.pad)

    @property
    def end_id(self) -> int:
        """The id that ends a text, in the published vocabulary."""
        return self.id_of(self.end)

    def order(self, messages: Sequence[Message]) -> list[int]:
        """The places of the messages in the order in which the model reads them."""
        if not self.parallel:
            return list(range(len(messages)))
        out: list[int] = []
        calls: list[int] = []  # of one breath, and their results
        results: list[int] = []
        for place, message in enumerate(messages):
            if message.role == "observation":
                results.append(place)
                continue
            if not message.together:
                out += calls + results
                calls, results = [], []
            calls.append(place)
        return out + calls + results

    def frames(self, message: Message, *, last: bool = True) -> tuple[Frame, ...]:
        """A message as the turns that the model reads; `last`: no other answer comes after it."""
        if message.tools:
            return self.tools_frames(message)
        if message.arguments is not None:
            content = self.call_text(message.metadata, message.arguments)
            return (Frame(message.role, message.metadata, content),)
        return (Frame(message.role, message.metadata, message.content),)

    def visible(self, answer: str) -> str:
        """What of an answer is for its reader: all of it, where the family does not think."""
        return answer

    @abstractmethod
    def tools_frames(self, message: Message) -> tuple[Frame, ...]:
        """The turns that tell the model of its tools, and the system texts beside them."""

    @abstractmethod
    def call_text(self, name: str, arguments: dict[str, Any]) -> str:
        """A call's content, as the model writes it."""

    @abstractmethod
    def read_call(self, name: str, content: str) -> dict[str, Any]:
        """The arguments of a call. Raises CallError with a message for the model."""
