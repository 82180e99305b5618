"""Where a text holds a key word: by value, by stem, and by pieces of Chinese."""

from __future__ import annotations

import re

from glmstudio.knowledge.judging.case import fitted
from glmstudio.knowledge.judging.keywords import COLOURS
from glmstudio.knowledge.judging.questions import QuestionKind
from glmstudio.knowledge.language.phrases import either
from glmstudio.knowledge.language.quantities import same
from glmstudio.knowledge.language.tokens import Text, Token, plural_stem, stem

MOST = 24  # places of one key word that are looked at
_AFTER_NAME = frozenset("的了吧呢啊呀哦嘛写画做建造拍唱说创编导演着家等和与")
_KIN = re.compile(rf"(?:'s |..的)({either('family')})")
_NAME = re.compile(r"[\u4e00-\u9fff]{2,3}$")
_NAMED = re.compile(r"(?:是|叫|为|由|:)$")

Span = tuple[int, int]


def places(question: QuestionKind, key: str, said: Text) -> list[Span]:
    """Where a text holds one of the alternatives (divided by `|`) of a key word, the first `MOST`."""
    found: list[Span] = []
    for alternative in key.split("|"):
        wanted = Text(alternative)
        tokens = [token for token in wanted.tokens if token.kind != "mark"]
        if not tokens:
            continue
        if all(token.kind == "han" for token in tokens):
            found += _han_places(question, "".join(token.text for token in tokens), said)
        else:
            found += _sequence_places(question, wanted, tokens, said)
    return sorted(span for span in set(found) if not _relative_of(key, said.small, span))[:MOST]


def _han_places(question: QuestionKind, key: str, said: Text) -> list[Span]:
    found = [span for span in _texts(key, said.small) if not _longer_name(question, key, said.small, span)]
    if not found and len(key) == 2 and key[1] == "色" and key[0] in COLOURS:
        found = _texts(key[0], said.small)
    if not found and len(key) >= 4:
        found = _pieces(key, said.small)
    return found


def _relative_of(key: str, small: str, span: Span) -> bool:
    """Kim's brother is not Kim."""
    found = _KIN.match(small, max(0, span[1] - 2))
    return found is not None and found[1] not in key


def _texts(key: str, small: str) -> list[Span]:
    return [m.span() for _, m in zip(range(MOST), re.finditer(re.escape(key), small), strict=False)]


def _longer_name(question: QuestionKind, key: str, small: str, span: Span) -> bool:
    """李明 is not in 组长是李明华。"""
    if not question.who or not _NAME.match(key) or not _NAMED.search(small[: span[0]][-1:]):
        return False
    rest = re.match(r"([\u4e00-\u9fff])(?![\u4e00-\u9fff])", small[span[1] : span[1] + 2])
    return rest is not None and rest[1] not in _AFTER_NAME and rest[1] not in question.text.small


def _pieces(key: str, small: str) -> list[Span]:
    """河边钓鱼 in 常去河边, 在那里钓鱼: all of it in pieces of two characters or more, in order of the key."""
    found: list[Span] = []
    at = 0
    while at < len(key):
        size = next((size for size in range(len(key) - at, 1, -1) if key[at : at + size] in small), 0)
        if not size:
            return []
        place = small.index(key[at : at + size])
        found.append((place, place + size))
        at += size
    return found[:1]


def _sequence_places(question: QuestionKind, wanted: Text, key: list[Token], said: Text) -> list[Span]:
    tokens = [token for token in said.tokens if token.kind != "mark" or token.text in "/-"]
    found: list[Span] = []
    for place in range(len(tokens) - len(key) + 1):
        window = tokens[place : place + len(key)] if len(key) > 1 else tokens[place : place + 1]
        if all(_equal(question, wanted, k, t) for k, t in zip(key, window, strict=False)):
            found.append((window[0].start, window[-1].end))
            if len(found) == MOST:
                break
    return found


def _equal(question: QuestionKind, wanted: Text, key: Token, token: Token) -> bool:
    if key.kind != token.kind:
        return False
    if key.what is not None and token.what is not None:
        due, said = fitted(question, key.what), fitted(question, token.what)
        return due is not None and said is not None and same(due, said)
    if key.text == token.text or key.kind != "word":
        return key.text == token.text
    if plural_stem(key.text) == plural_stem(token.text):
        return True
    return not wanted.is_name(key) and stem(key.text) == stem(token.text)
