"""Running text as training data: a document, or a piece of one. It is no conversation, and all of it is learned."""

from __future__ import annotations

from dataclasses import dataclass

from glmstudio.families.message import GOES_ON, TEXT, Message


@dataclass(frozen=True)
class Document:
    """Some text; `goes_on` where it is cut off and more of its document follows."""

    text: str
    goes_on: bool = False

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the model reads and learns."""
        return (Message(TEXT, self.text, GOES_ON if self.goes_on else "", trained=True),)
