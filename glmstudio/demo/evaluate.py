"""How well the demo model calls tools, on dialogues whose names, words and numbers it never saw.

`python -m glmstudio.demo.evaluate [--adapter DIR] [--count 200]` prints a table; `evaluate` gives the shares.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GlmForCausalLM

from glmstudio.data.protocol.prompt import chat_ids
from glmstudio.data.protocol.tokenizer import PAD, Tokenizer
from glmstudio.demo.world import NEW_TOOL, TEMPLATES, TOOLS, Exchange, World
from glmstudio.families.message import Message, tools_message
from glmstudio.families.python_calls import CallError, parse_call
from glmstudio.glm.load import load_model
from glmstudio.paths import DEMO

_BATCH = 50
_LONGEST_ANSWER = 60


@dataclass(frozen=True)
class DemoQuestion:
    """A held-out question, the tools listed with it, and what is expected: a call, or words in the answer."""

    tools: list[str]
    exchange: Exchange
    words: str = ""


def main() -> None:
    """Print the shares of one model as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=DEMO / "model")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--count", type=int, default=200, help="questions of each kind and language")
    parser.add_argument("--wrong", action="store_true", help="show what went wrong")
    options = parser.parse_args()
    model = load_model(options.model, options.adapter, device="cpu")
    for kind, share in evaluate(model, Tokenizer(options.model), count=options.count, show=options.wrong).items():
        print(f"{kind:28} {share:6.1%}")


def evaluate(model: GlmForCausalLM, tokenizer: Tokenizer, *, count: int, show: bool = False) -> dict[str, float]:
    """The share of right answers for each kind of question: `tools en`, `no call zh`, `new tool en`, …"""
    shares: dict[str, float] = {}
    for lang in ("en", "zh"):
        for kind, questions in questions_of(lang, count).items():
            answers = answer_all(model, tokenizer, questions)
            right = [is_right(question, answer) for question, answer in zip(questions, answers, strict=True)]
            shares[f"{kind} {lang}"] = sum(right) / len(right)
            for question, answer, good in zip(questions, answers, right, strict=True):
                if show and not good:
                    print(kind, json.dumps([question.exchange.turns[0]["content"], answer], ensure_ascii=False))
    return shares


def questions_of(lang: str, count: int) -> dict[str, list[DemoQuestion]]:
    """Held-out questions by kind, each in one language; every tool is listed, as on the chat page."""
    world = World(seed=11, held_out=True)
    kinds = {
        "tools": [world.tool_exchange(lang) for _ in range(count)],
        "no call": [world.talk_exchange(lang, identity=False) for _ in range(count)],
        "new tool": [world.tool_exchange(lang, NEW_TOOL) for _ in range(count)],
        "new identity": [world.identity_exchange(lang, "tuned") for _ in range(count)],
    }
    words = {"new identity": TEMPLATES[lang]["identity"]["tuned"]}
    return {
        kind: [DemoQuestion(list(TOOLS), exchange, words.get(kind, "")) for exchange in exchanges]
        for kind, exchanges in kinds.items()
    }


def answer_all(model: GlmForCausalLM, tokenizer: Tokenizer, questions: list[DemoQuestion]) -> list[tuple[str, str]]:
    """The model's first message to each question: its metadata (a tool's name or nothing) and its content."""
    answers: list[tuple[str, str]] = []
    for batch in _batches(questions):
        prompts = [_prompt(tokenizer, question) for question in batch]
        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        output = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=_LONGEST_ANSWER,
            do_sample=False,
            eos_token_id=list(tokenizer.stop_ids),
            pad_token_id=PAD,
        )
        for row in output[:, width:].tolist():
            metadata, _, content = tokenizer.decode(_until_stop(row, tokenizer)).partition("\n")
            answers.append((metadata.strip(), content.strip()))
    return answers


def is_right(question: DemoQuestion, answer: tuple[str, str]) -> bool:
    """Exact tool and arguments where a call is due; no call, and the words where some are expected, elsewhere."""
    metadata, content = answer
    if question.exchange.tool is None:
        return metadata == "" and question.words in content
    try:
        return metadata == question.exchange.tool and parse_call(content) == question.exchange.arguments
    except CallError:
        return False


def _prompt(tokenizer: Tokenizer, question: DemoQuestion) -> list[int]:
    tools: Any = World(0).record([], tools=question.tools)["tools"]
    return chat_ids(tokenizer, [tools_message(tools), Message("user", question.exchange.turns[0]["content"])])


def _until_stop(row: list[int], tokenizer: Tokenizer) -> list[int]:
    ends = [place for place, index in enumerate(row) if index in tokenizer.stop_ids]
    return row[: ends[0]] if ends else row


def _batches(questions: list[DemoQuestion]) -> Iterator[list[DemoQuestion]]:
    for start in range(0, len(questions), _BATCH):
        yield questions[start : start + _BATCH]


if __name__ == "__main__":
    main()
