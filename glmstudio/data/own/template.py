"""Files to start a dataset from, in the language of the reader."""

from __future__ import annotations

import csv
import io
import json

from glmstudio.words import say

_ROWS = (1, 2)


def table(lang: str) -> bytes:
    """A CSV with a header and two rows. The mark before it tells Excel that it is UTF-8."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow([say(lang, "data.template.question"), say(lang, "data.template.answer")])
    rows.writerows(_pair(lang, row) for row in _ROWS)
    return text.getvalue().encode("utf-8-sig")


def conversations(lang: str) -> bytes:
    """A JSONL of two conversations: one of a single question, one that goes on."""
    first, second = (_turns(*_pair(lang, row)) for row in _ROWS)
    system = [{"role": "system", "content": say(lang, "data.template.system")}]
    further = _turns(say(lang, "data.template.further"), say(lang, "data.template.further_answer"))
    lines = ({"messages": first}, {"messages": system + second + further})
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _pair(lang: str, row: int) -> tuple[str, str]:
    return say(lang, f"data.template.question_{row}"), say(lang, f"data.template.answer_{row}")


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
