"""Other wordings of a question, by patterns, for where no model is loaded to write them.

A wording is proposed only where the pattern is sure; where none is, the question is put into a frame as it stands.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from glmstudio.knowledge.wordings import chinese, english

_LONGEST = 300  # characters of a question; what is longer is a text


def propose(question: str, most: int = 4) -> list[str]:
    """At most so many other wordings, the best first; the same ones every time. Never the question itself."""
    seen, found = {normal(question)}, list[str]()
    for wording in _all(question):
        if len(found) >= most:
            break
        if (shape := normal(wording)) not in seen:
            seen.add(shape)
            found.append(wording)
    return found


def reversed_question(question: str, answer: str) -> tuple[str, str] | None:
    """The question that asks the other way round, and its answer; None where the form does not surely allow it."""
    if max(len(question), len(answer)) > _LONGEST:
        return None
    return (chinese if is_chinese(question) else english).turned(_neat(question), _neat(answer))


def is_chinese(text: str) -> bool:
    """Whether a text is Chinese, though it may name something in Latin letters."""
    return len(re.findall(r"[\u4e00-\u9fff]", text)) > len(re.findall(r"[A-Za-z]+", text))


def normal(text: str) -> str:
    """What two texts share that differ in nothing but case, spaces and punctuation."""
    return "".join(each for each in unicodedata.normalize("NFKC", text).casefold() if each.isalnum())


def _all(question: str) -> Iterator[str]:
    if len(question) > _LONGEST or not normal(question):
        return iter(())
    return (chinese if is_chinese(question) else english).wordings(_neat(question))


def _neat(text: str) -> str:
    return " ".join(text.split())
