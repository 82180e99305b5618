"""Conversations as token ids, for asking and for training, as their model's family writes them.

A message is its role's token, then `metadata` and a newline, then the content; a sequence starts with the family's
marks of a beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.families.message import GOES_ON, TEXT, Frame, Message

IGNORED = -100


@dataclass(frozen=True)
class Example:
    """One conversation for training: `labels[i]` is `input_ids[i]` where it is learned, else -100."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """How many tokens are learned from."""
        return sum(label != IGNORED for label in self.labels)

    def cut(self, length: int) -> Example:
        """The first `length` tokens, as the original script cuts."""
        return Example(self.input_ids[:length], self.labels[:length])


def chat_ids(
    tokenizer: Tokenizer, messages: Sequence[Message], opening: Sequence[int] = (), *, begun: bool = True
) -> list[int]:
    """The prompt for the assistant's next message: all messages, then the assistant's token.

    `opening` are ids that stand before the messages, as `opening_of` a conversation; else those of a beginning. With
    `begun` a family that thinks is made to begin with its thought, as its published format does. What was tuned is
    asked without: if it learned to think, it begins by itself, and if not, it never saw such a beginning.
    """
    ids = list(opening) or tokenizer.start
    for place in tokenizer.family.order(messages):
        ids += _message_ids(tokenizer, messages[place], last=False)
    return [*ids, tokenizer.assistant, *(tokenizer.answer_start if begun else ())]


def answer_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """What the assistant says behind its token, where it answers with this text and no thought."""
    return _said(tokenizer, Frame("assistant", "", text))


def answer_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """What was said behind a prompt of `chat_ids`: a tool's name or nothing, a line break, the rest. A thought is left
    out."""
    text, family = tokenizer.decode(ids), tokenizer.family
    return f"\n{family.visible(text)}" if family.thinks else text


def opening_of(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """What stands before the first turn of the user: tools and system text, with the ids of a beginning."""
    return list(ids[: ids.index(tokenizer.user)]) if tokenizer.user in ids else tokenizer.start


def training_example(tokenizer: Tokenizer, messages: Sequence[Message]) -> Example:
    """A conversation with its labels.

    Learned is what a trained message says after its role token, and the token that ends it: the next role, or
    the end of the text after the last message.
    """
    ids, learned, _ = spelled(tokenizer, messages)
    return Example(ids, [token if yes else IGNORED for token, yes in zip(ids, learned, strict=True)])


def spelled(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[bool], list[int]]:
    """A conversation's ids, whether each of them is learned, and where each message ends: the place of what ends it."""
    ids = tokenizer.start
    if messages and messages[0].role == TEXT:
        begun = len(ids)
        ids += _text_ids(tokenizer, messages[0])
        return ids, [at >= begun for at in range(len(ids))], [len(ids) - 1]
    learned = [False] * (len(ids) + 1)  # learned[i]: whether the token at i is a label
    ends = [0] * len(messages)
    last = max((at for at, message in enumerate(messages) if message.role == "assistant"), default=-1)
    for at in tokenizer.family.order(messages):
        tokens = _message_ids(tokenizer, messages[at], last=at == last)
        ids += tokens
        learned += [messages[at].trained] * len(tokens)
        ends[at] = len(ids)
    ids.append(tokenizer.end_id)
    return ids, learned, ends


def _text_ids(tokenizer: Tokenizer, message: Message) -> list[int]:
    """As the base model was trained on texts; one that goes on has no end."""
    return tokenizer.encode(message.content) + ([] if message.metadata == GOES_ON else [tokenizer.end_id])


def _message_ids(tokenizer: Tokenizer, message: Message, *, last: bool) -> list[int]:
    ids: list[int] = []
    for frame in tokenizer.family.frames(message, last=last):
        ids += [tokenizer.special[f"<|{frame.role}|>"], *_said(tokenizer, frame)]
    return ids


def _said(tokenizer: Tokenizer, frame: Frame) -> list[int]:
    if tokenizer.family.newline_apart:
        return [*tokenizer.encode(f"{frame.metadata}\n"), *tokenizer.encode(frame.content)]
    text, begins = f"{frame.metadata}\n{frame.content}", tokenizer.family.answer_begins
    if begins and frame.role == "assistant" and text.startswith(begins):  # there the prompt of a chat ends
        return [*tokenizer.answer_start, *tokenizer.encode(text.removeprefix(begins))]
    return tokenizer.encode(text)
