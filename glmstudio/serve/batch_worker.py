"""The process that asks many questions: `python -m glmstudio.serve.batch_worker PLACE` (`knowledge.asking`)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from transformers import GlmForCausalLM

from glmstudio.data.protocol.prompt import answer_ids, answer_text, chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError, refused
from glmstudio.families.message import Message
from glmstudio.files import read_table, write_json
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.glm.batch_generation import Generated, generate, log_likelihoods
from glmstudio.glm.load import load_model
from glmstudio.knowledge.asking import read_answers

_BEAT = 0.5  # seconds between two words about how far it is
_PORTION = 256  # questions whose answers are written before the next ones are asked


class Worker:
    """Asks what was not asked yet, and writes each answer down at once."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._work = read_table(place / "work.json")
        _end_line(place / "answers.jsonl")
        self._known = set(read_answers(place))
        parts, questions = self._work["parts"], self._work["questions"]
        wanted = {(part["mark"], each["key"]) for part in parts for each in questions}
        self._total = len(wanted)
        self._done = self._total - len(wanted - self._known)
        self._began, self._before, self._beat = time.monotonic(), self._done, 0.0

    def run(self) -> None:
        """Ask everybody. The weights are loaded once for all that share them."""
        self._tell()
        for model, parts in groupby(self._work["parts"], key=lambda part: str(part["model"])):
            waiting = [(part, self._open(part["mark"])) for part in parts]
            if not any(questions for _, questions in waiting):
                continue
            adapters = AdapterPool(load_model(model, device=self._work.get("device") or None))
            tokenizer = Tokenizer(Path(model))
            for part, questions in waiting:
                if part["adapter"]:
                    adapters.add(part["who"], Path(part["adapter"]))
                adapters.use(part["who"] if part["adapter"] else "")
                for start in range(0, len(questions), _PORTION):
                    self._ask(adapters.model, tokenizer, part["mark"], questions[start : start + _PORTION])
            del adapters
        self._tell(last=True)

    def _open(self, mark: str) -> list[dict[str, Any]]:
        asked: dict[str, dict[str, Any]] = {each["key"]: each for each in self._work["questions"]}
        return [each for key, each in asked.items() if (mark, key) not in self._known]

    def _ask(self, glm: GlmForCausalLM, tokenizer: Tokenizer, mark: str, questions: Sequence[dict[str, Any]]) -> None:
        before = self._work["opening"]
        said = [[Message.from_json(each) for each in (*before, *question["messages"])] for question in questions]
        prompts = [chat_ids(tokenizer, messages, begun=False) for messages in said]
        likely = _likelihoods(glm, tokenizer, prompts, [str(question["due"]) for question in questions])
        with (self._place / "answers.jsonl").open("a", encoding="utf-8") as file:
            for place, answer in generate(glm, prompts, tokenizer.stop_ids, limit=int(self._work["limit"])):
                self._write(file, tokenizer, answer, {"mark": mark, "key": questions[place]["key"]}, likely.get(place))

    def _write(self, file: Any, tokenizer: Tokenizer, answer: Generated, row: dict[str, Any], likely: Any) -> None:
        row |= {"text": answer_text(tokenizer, answer.ids), "ended": answer.ended, "likelihood": likely}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        self._done += 1
        self._tell()

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if now - self._beat < _BEAT and not last:
            return
        self._beat = now
        asked = self._done - self._before
        left = (now - self._began) / asked * (self._total - self._done) if asked else None
        write_json(
            self._place / "status.json", {"done": self._done, "total": self._total, "seconds_left": left}, parents=False
        )


def _end_line(file: Path) -> None:
    """End a line that a kill has cut in the middle: what is written next must not become a part of it."""
    if file.is_file() and file.stat().st_size:
        with file.open("rb+") as lines:
            lines.seek(-1, os.SEEK_END)
            if lines.read(1) != b"\n":
                lines.write(b"\n")


def _likelihoods(
    glm: GlmForCausalLM, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], due: Sequence[str]
) -> dict[int, float]:
    """By place, how likely the answer that is due is; nothing for those of which none is."""
    places = [place for place, text in enumerate(due) if text]
    answers = [answer_ids(tokenizer, due[place]) for place in places]
    found: Iterator[tuple[int, float]] = log_likelihoods(glm, [prompts[place] for place in places], answers)
    return {places[number]: value for number, value in found}


def main(place: Path) -> int:
    """Ask, and leave the reason where that ends early."""
    try:
        Worker(place).run()
    except StudioError as problem:
        return _failed(place, problem)
    except torch.OutOfMemoryError:
        return _failed(place, StudioError("knowledge.no_memory"))
    except OSError as error:
        return _failed(place, refused(error))
    return 0


def _failed(place: Path, problem: StudioError) -> int:
    write_json(place / "status.json", read_table(place / "status.json") | {"problem": problem.to_json()})
    sys.stderr.write(f"{problem}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
