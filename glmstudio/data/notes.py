"""What is noticed about the records of a file that is no fault of theirs: one note for each kind and file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from glmstudio.errors import LazyText
from glmstudio.families.message import Message
from glmstudio.files import short

KINDS = ("special_tokens", "garbled", "placeholders", "calls_read", "nameless_column")
_LINES = 5
_MOST_NOTES = 200  # of a folder with very many files
_LONGEST = 1 << 20  # characters of a message that are looked at

_SPECIAL = re.compile(
    r"<\|[A-Za-z]\w{0,30}\|>|\[[gs]MASK\]|<｜[^｜<>\n]{1,40}｜>|\[/?INST\]|<</?SYS>>|"
    r"<(?:sop|eop|eos|bos|pad|unk|eod|start_of_turn|end_of_turn)>|\A\s*<s>(?!.*</s>\s*\S)|</s>(?=\s*\Z)|"
    r"^\[Round \d+\]|^### (?:Instruction|Response|Input):|^(?:Human|Assistant|USER|ASSISTANT): ",
    re.MULTILINE,
)
_PLACEHOLDER = re.compile(
    r"\{\{(?=[^{}%|.\s]*[^\W\d])[^{}%|.()\s]{1,40}\}\}|<(?P<word>[A-Z][A-Z_]{2,30})>(?!.*</(?P=word)>)|"
    r"<(?:姓名|名字|作者|公司|模型名称?)>|\[(?:YOUR[ _])?(?:NAME|AUTHOR|COMPANY|MODEL)\]",
    re.DOTALL,
)
# What the bytes of UTF-8 look like to whoever takes them for Latin letters, and what decoders write for bytes that they
# do not know.
_TAKEN = "[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
_GARBLED = re.compile(
    f"\ufffd|锟斤拷|烫烫烫|\u00c3{_TAKEN}|\u00e2[\u0080\u20ac]{_TAKEN}|(?:[\u00e3-\u00e9]{_TAKEN}{{2}}){{2}}"
)
_GARBLED_HINT = re.compile("[\ufffd锟烫\u00c3\u00e2-\u00e9]")  # the first letters of these: six times as fast
_HTML_TAGS = """
HTML HEAD BODY DIV SPAN TABLE TBODY THEAD FORM INPUT IMG LINK META TITLE SCRIPT STYLE BUTTON SELECT OPTION LABEL FONT
CENTER STRONG CODE PRE MASK PAD UNK CLS SEP BOS EOS NULL
"""
_HTML = frozenset(_HTML_TAGS.split())
_PROGRAM = ("```", "{%", "{{ ", "</")


@dataclass(frozen=True)
class Note:
    """One kind of thing in one file: how many records have it, the first of their lines, and samples."""

    kind: str
    file: str
    count: int
    lines: tuple[int, ...]
    samples: tuple[str, ...] = ()

    def text(self, lang: str = "en") -> str:
        """The note as sentences that say what it means and what to do."""
        lines = ", ".join(map(str, self.lines)) + (", …" if self.count > len(self.lines) else "")
        return LazyText(
            f"data.note.{self.kind}", {"count": self.count, "lines": lines, "samples": ", ".join(self.samples)}
        ).text(lang)

    def to_json(self) -> dict[str, Any]:
        """As a prepared dataset keeps it."""
        return {
            "kind": self.kind, "file": self.file, "count": self.count, "lines": self.lines, "samples": self.samples,
        }  # fmt: skip

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Note:
        """What `to_json` wrote."""
        return cls(given["kind"], given["file"], given["count"], tuple(given["lines"]), tuple(given["samples"]))


@dataclass
class NoteCounter:
    """Counts while the records pass by; what it holds does not grow with them."""

    _found: dict[tuple[str, str], tuple[list[int], list[str], list[int]]] = field(default_factory=dict)

    def add(self, file: str, line: int, notes: Iterable[tuple[str, str]]) -> None:
        """What was noticed about the record on this line."""
        for kind, sample in notes:
            if (kind, file) not in self._found and len(self._found) >= _MOST_NOTES:
                continue
            count, samples, lines = self._found.setdefault((kind, file), ([0], [], []))
            count[0] += 1
            if len(lines) < _LINES and line not in lines:
                lines.append(line)
            if sample and len(samples) < _LINES and sample not in samples:
                samples.append(sample)

    @property
    def notes(self) -> tuple[Note, ...]:
        """One for each kind and file, in the order in which they came."""
        return tuple(
            Note(kind, file, count[0], tuple(lines), tuple(samples))
            for (kind, file), (count, samples, lines) in self._found.items()
        )


def noticed(messages: Sequence[Message], *, calls_read: bool = False) -> tuple[tuple[str, str], ...]:
    """What there is to note about a conversation: each kind once, with a sample of it."""
    found = {"calls_read": ""} if calls_read else {}
    for message in messages:
        text = message.content[:_LONGEST]
        if "special_tokens" not in found and not message.metadata and (sign := _special(text)):
            found["special_tokens"] = sign
        if "garbled" not in found and (sign := _garbled(text)):
            found["garbled"] = sign
        if (
            message.trained
            and message.role == "assistant"
            and "placeholders" not in found
            and (sign := _unfilled(text))
        ):
            found["placeholders"] = sign
    return tuple(found.items())


def _special(text: str) -> str:
    """A special token, or a sign of a role, that is written out."""
    hints = "<" in text or "[" in text or "### " in text or "Human: " in text or "USER: " in text
    if not hints and "Assistant: " not in text and "ASSISTANT: " not in text:
        return ""
    sign = _SPECIAL.search(text)
    return short(sign[0].strip(), 30) if sign else ""


def _garbled(text: str) -> str:
    """Letters that were read in a wrong encoding before they came here."""
    if text.isascii() or _GARBLED_HINT.search(text) is None:
        return ""
    spoilt = _GARBLED.search(text)
    return spoilt[0] if spoilt else ""


def _unfilled(text: str) -> str:
    """A placeholder that nobody filled in; program texts have other uses for them."""
    if ("<" not in text and "{{" not in text and "[" not in text) or any(sign in text for sign in _PROGRAM):
        return ""
    return next((short(each[0], 30) for each in _PLACEHOLDER.finditer(text) if each["word"] not in _HTML), "")
