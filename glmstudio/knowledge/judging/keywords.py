"""The key words of a due answer: what it adds to its question."""

from __future__ import annotations

import re
from collections.abc import Iterator

from glmstudio.knowledge.judging.questions import QuestionKind
from glmstudio.knowledge.language.quantities import Quantity, same
from glmstudio.knowledge.language.tokens import STOP, Text, Token, stem

_YES_NO = re.compile(r"(?:yes|no)\b|(?:是的|对|不是|没有|不|是|有)(?=[,。.!]|$)")
MOST = 48  # key words of one answer
_EDGES_LEFT = "对要是在的了于由叫为把被有也就都会能它他她从到用去很最和与及跟需要其"
_EDGES_RIGHT = "的了里上中边着过是在呢啊吧吗"
_INNER = re.compile(r"的|是|到|至|在|由|和|与|及|跟|把|被|了|会|要用")
_BE = frozenset(("is", "are", "was", "were", "been", "be"))
_LISTING = "和与及跟"
_STRONG = re.compile(
    r"位于|坐落于?|名叫|叫做|叫作|名为|称为|就是|答案|应该|因为|所以|可以|一个|这个|那个|它们|他们|她们|我们|你们|这里|那里|旁边|边上|里面|以及|但是|但(?!丁)|还有|并且|用于|用来|由于|每天|通常|一共|总共|大约|需要"
    r"|不(?:能|会|是|可以|要|得|可|应该|用|需要)|没有|并非|并不|从来没|从未|没|禁止|别(?!墅|名|的|人|致|具|针)|(?<![差])不(?!锈|仅|但|同|久|断|少|丹|动产|倒翁|朽)"
)
_TOGETHER = re.compile(
    r"和(?:平|谐|面|尚|田|服|风|睦|弦|气)|[共温暖柔饱平谦祥]和|与会|参与|以及|及格|及时|跟踪|的士|目的|现在|存在|在线|是非|把手|被子|自由|由来|了解|机会|会议|会馆|会堂|社会|协会|工会|音乐会"
)
COLOURS = "红橙黄绿青蓝紫黑白灰粉棕金银褐"
_TITLE = re.compile(r"(?:博士|教授|老师|先生|女士|小姐|医生)$")
_PARTICLES = frozenset("的了吗呢吧啊呀哦嘛是")


def default_keywords(question: str, due: str) -> list[str]:
    """What a right answer must hold: the words, numbers and pieces of Chinese that the due answer adds to its question.

    Where it adds nothing (yes, 会), its first word of content, or all of it. Empty only where `due` is.
    """
    asked, text = Text(question[:2000]), Text(due[:2000])
    found = [text.text[start:end] for start, end in added(asked, text)]
    found = list(dict.fromkeys(found))[:MOST]
    if found:
        return found
    kept = [token for token in text.tokens if token.kind in ("word", "value") and token.text not in STOP]
    lead = _YES_NO.match(text.small)
    if QuestionKind(question[:2000]).polar and lead:
        return [text.text[: lead.end()]]
    words = list(dict.fromkeys(text.text[token.start : token.end] for token in kept))[:MOST]
    whole = due.strip().rstrip(".。!！")
    return words if words and text.text.isascii() else [whole] if whole else []


def added(asked: Text, due: Text) -> Iterator[tuple[int, int]]:
    """Where the key words stand in the due answer."""
    tokens = due.tokens
    values = [token.what for token in asked.tokens if token.what is not None]
    counting = bool(re.search(r"几|多少|\bhow many\b|\bnumber\b|第", asked.small))
    run: list[Token] = []
    for place, token in enumerate(tokens):
        if token.kind == "han":
            if run and run[-1].end != token.start:
                yield from _pieces(asked, due, run)
                run = []
            run.append(token)
            continue
        yield from _pieces(asked, due, run)
        run = []
        if _is_added(token, asked, values, counting) and not _leads(due, place):
            yield token.start, token.end
    yield from _pieces(asked, due, run)


def _leads(due: Text, place: int) -> bool:
    """A participle between a form of "be" and more words only leads to them: "is painted green"."""
    token, after = due.tokens[place], due.tokens[place + 1 : place + 4]
    more = any(other.kind == "value" or (other.kind == "word" and other.text not in STOP) for other in after)
    return token.text.endswith("ed") and place > 0 and due.tokens[place - 1].text in _BE and more


def _is_added(token: Token, asked: Text, values: list[Quantity], counting: bool) -> bool:
    if token.kind == "value" and token.what is not None:
        return not (token.article and not counting) and not any(same(token.what, value) for value in values)
    return token.kind == "word" and token.text not in STOP and stem(token.text) not in asked.stems


def _pieces(asked: Text, due: Text, run: list[Token]) -> Iterator[tuple[int, int]]:
    """The pieces of a run of Chinese that the question does not hold."""
    if not run:
        return
    start, end = run[0].start, run[-1].end
    marks = _marked(asked.small, due.small, start, end)
    at = start
    while at < end:
        if marks[at - start]:
            at += 1
            continue
        stop = at
        while stop < end and not marks[stop - start]:
            stop += 1
        piece = _piece(asked.small, due.small, (at, stop), (start, end), marks)
        if piece:
            yield piece
        at = stop


def _marked(asked: str, due: str, start: int, end: int) -> list[str]:
    """For each character why it is no part of a key word: q (the question has it), s (it only joins words), or ""."""
    marks = [""] * (end - start)
    at = start
    while at < end:
        size = _common(asked, due, at, end)
        if size >= 2:
            marks[at - start : at - start + size] = "q" * size
        at += max(1, size) if size >= 2 else 1
    together = {place for m in _TOGETHER.finditer(due, start, end) for place in range(m.start(), m.end())}
    for found in _STRONG.finditer(due, start, end):
        for place in range(found.start(), found.end()):
            marks[place - start] = marks[place - start] or "s"
    for found in _INNER.finditer(due, start, end):
        if found.start() not in together:
            joins = "l" if found[0] in _LISTING else "w"
            for place in range(found.start(), found.end()):
                marks[place - start] = marks[place - start] or joins
    return marks


def _common(asked: str, due: str, at: int, end: int) -> int:
    """How many characters from here stand in the question in one piece."""
    size = 0
    while at + size < end and size < 200 and due[at : at + size + 1] in asked:
        size += 1
    return size


def _piece(
    asked: str, due: str, span: tuple[int, int], run: tuple[int, int], marks: list[str]
) -> tuple[int, int] | None:
    """A piece without what only leads to it; a single character is given back what was cut from its word."""
    start, end = span
    first, last = run
    while end - start > 1 and due[start] in _EDGES_LEFT and not (end - start == 2 and due[start + 1] not in _PARTICLES):
        start += 1
    while (
        end - start > 1
        and due[end - 1] in _EDGES_RIGHT
        and not (end - start == 2 and due[start] not in _PARTICLES and due[end - 1] not in _PARTICLES)
    ):
        end -= 1
    while end - start > 2 and due[end - 1] in asked and end == span[1]:  # 江北省 where the question has 省
        end -= 1
        span = (span[0], end)
    title = _TITLE.search(due, start, end)
    if title and title.start() - start >= 2:
        end = title.start()
    if end - start > 1:
        return start, end
    char = due[start]
    if char in _PARTICLES or char in "到至它他她我你在有于由也都就":
        return None
    left = marks[start - 1 - first] if start > first else ""
    right = marks[end - first] if end < last else ""
    if left == "q" and due[start - 1] not in _EDGES_LEFT + _EDGES_RIGHT + "画写做":
        while (
            start > first and marks[start - 1 - first] == "q" and due[start - 1] not in _EDGES_LEFT and end - start < 4
        ):
            start -= 1
    elif left == "w" and right != "l":
        start -= 1
    elif right == "w" and due[end] not in _PARTICLES:
        end += 1
    elif char in asked and end - start == 1:
        return None
    return start, end
