"""Other wordings of questions for approval: written by the model that the chat has loaded, else by patterns."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from glmstudio.access.api_key import bearer
from glmstudio.chat.model_server import ModelServer
from glmstudio.errors import StudioError
from glmstudio.knowledge.table.fact_table import Proposal, Row
from glmstudio.knowledge.wordings.patterns import is_chinese, normal, propose, reversed_question

MOST = 3  # wordings that are proposed for a fact
AT_ONCE = 200  # facts for which wordings are proposed at once
_LONGEST = 200  # characters of a wording
_TOKENS = 160
_SHARED = 0.3  # of what a question names, so much comes again in a wording
_BULLET = re.compile(r"^\s*(?:[-*•·–]+|[(（]?\d{1,2}\s*[.)、．:：）])\s*")
_QUOTES = "\"'“”‘’「」『』`* "
_ENGLISH = (
    "Write {n} other ways to ask the question below. Keep its meaning. Write one on each line, without numbers, and do "
    "not answer it.\n\n{question}"
)
_CHINESE = "请把下面的问题换 {n} 种说法，意思不变。每行写一种，不要编号，也不要回答它。\n\n{question}"

# What stands in many questions, whatever they ask about.
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "who whom whose what where when which how why is are was were be do does did has have the a an of in on at to "
        "for by it its that this can could you please tell me i know",
    )
) | frozenset("谁什么哪里儿个怎样如何时多少几请问你您知道告诉我吗呢的是在了有和与")

Writer = Callable[[str], str]


@dataclass(frozen=True)
class Loaded:
    """The base model that the chat has loaded."""

    port: int
    name: str
    key: str

    def write(self, question: str) -> str:
        """What it answers when it is asked for other wordings. Raises StudioError."""
        order = (_CHINESE if is_chinese(question) else _ENGLISH).format(n=MOST, question=question)
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": order}],
            "temperature": 0,
            "max_tokens": _TOKENS,
            "user": "wordings",
        }
        try:
            with httpx.Client(
                trust_env=False, timeout=httpx.Timeout(120, connect=5), headers=bearer(self.key)
            ) as client:
                reply = client.post(f"http://127.0.0.1:{self.port}/v1/chat/completions", json=body)
                return str(reply.json()["choices"][0]["message"].get("content") or "")
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise StudioError("chat.unreachable") from error


def loaded() -> Loaded | None:
    """The base that may be asked; None where the chat has no model loaded."""
    state = ModelServer.current()
    if state.state != "ready":
        return None
    try:
        return Loaded(state.port, ModelServer.loaded()[0].id, ModelServer.key())
    except (StudioError, IndexError):
        return None


def wants(row: Row) -> bool:
    """Whether a fact has one wording only, and nothing is proposed for it yet."""
    return row.fact is not None and not row.left_out and not row.fact.wordings and not row.proposed


def proposals(row: Row, *, write: Writer | None, turned: bool) -> tuple[Proposal, ...]:
    """What could be added to a fact, the best first; `turned` also asks the other way round where its form allows."""
    fact = row.fact
    if fact is None:
        return ()
    texts = usable(fact.question, fact.answer, write(fact.question)) if write else []
    known = {normal(each) for each in (fact.question, *fact.wordings, *texts)}
    texts += [each for each in propose(fact.question, MOST) if normal(each) not in known]
    found = [Proposal(each) for each in texts[:MOST]]
    other = reversed_question(fact.question, fact.answer) if turned else None
    return (*found, *([Proposal(*other)] if other else []))


def usable(question: str, answer: str, written: str) -> list[str]:
    """The lines of a model's answer that can be wordings of the question: none that says the answer, equals the
    question, is too long, or speaks of something else."""
    found: list[str] = []
    seen = {normal(question), ""}
    for line in written.splitlines()[:20]:
        text = _BULLET.sub("", line).strip(_QUOTES)
        if normal(text) in seen or len(text) > min(_LONGEST, 3 * len(question) + 20):
            continue
        if is_chinese(text) != is_chinese(question) or _says(answer, text, question) or not _akin(question, text):
            continue
        seen.add(normal(text))
        found.append(text)
    return found


def _says(answer: str, text: str, question: str) -> bool:
    return bool(normal(answer)) and normal(answer) in normal(text) and normal(answer) not in normal(question)


def _akin(question: str, text: str) -> bool:
    wanted, got = _pieces(question), _pieces(text)
    return not wanted or len(wanted & got) / len(wanted) >= _SHARED


def _pieces(text: str) -> set[str]:
    """The words and Chinese characters that tell what a question is about."""
    return set(re.findall(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+|\d+", text.casefold())) - _COMMON


class Writing:
    """Wordings that are being written in a thread: how far it is, and how to end it. One at a time."""

    def __init__(self) -> None:
        self.done = self.total = 0
        self.problem: StudioError | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether somebody writes."""
        return self._thread is not None and self._thread.is_alive()

    def cancel(self) -> None:
        """No more after the one that is being written."""
        self._ended.set()

    def start(self, rows: Sequence[Row], write: Writer, put: Callable[[Row, Writer], None]) -> None:
        """Let `put` handle each row. Nothing happens while it runs; it ends with the first problem."""
        if self.running:
            return
        self.done, self.total, self.problem = 0, len(rows), None
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, args=(rows, write, put), daemon=True, name="wordings")
        self._thread.start()

    def _run(self, rows: Sequence[Row], write: Writer, put: Callable[[Row, Writer], None]) -> None:
        for row in rows:
            if self._ended.is_set():
                return
            try:
                put(row, write)
            except StudioError as error:
                self.problem = error
                return
            self.done += 1


WRITING = Writing()
