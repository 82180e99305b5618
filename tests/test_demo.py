"""The demo model on questions it never saw, and the data that it was made from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.records import check_file
from glmstudio.demo.evaluate import evaluate, questions_of
from glmstudio.demo.world import World, _is_held_out
from glmstudio.glm.load import load_model
from glmstudio.paths import DEMO, SAMPLE


def sample() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow  # 13 s
def test_the_base_model_calls_tools_and_knows_when_not_to() -> None:
    shares = evaluate(load_model(DEMO / "model", device="cpu"), Tokenizer(DEMO / "model"), count=40)
    for lang in ("en", "zh"):
        assert shares[f"tools {lang}"] >= 0.9, shares
        assert shares[f"no call {lang}"] >= 0.95, shares
        assert shares[f"new tool {lang}"] < 0.1, shares
        assert shares[f"new identity {lang}"] < 0.1, shares


def test_the_demo_is_small_and_says_what_it_is() -> None:
    assert sum(file.stat().st_size for file in (DEMO / "model").iterdir()) < 15e6
    config = json.loads((DEMO / "model/config.json").read_text())
    assert (config["model_type"], config["glmstudio_demo"]) == ("chatglm", True)


def test_the_sample_is_whole_and_made_by_its_script(tmp_path: Any) -> None:
    from glmstudio.demo.make_sample import main

    assert check_file(SAMPLE).problems == ()
    assert check_file(SAMPLE).records == 2000
    main(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == SAMPLE.read_bytes()


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_is_held_out_was_never_seen(lang: str) -> None:
    asked = {turn["content"] for record in sample() for turn in record["conversations"] if turn["role"] == "user"}
    for kind, questions in questions_of(lang, 50).items():
        for question in questions:
            if kind == "no call" or question.exchange.tool == "roll_dice":
                continue  # small talk without an entity, and "roll a die", have nothing to hold out
            assert question.exchange.turns[0]["content"] not in asked, kind


def test_a_world_keeps_to_its_half() -> None:
    for held_out in (False, True):
        world = World(3, held_out=held_out)
        names = [world.city("en") for _ in range(50)] + [world.word("zh") for _ in range(50)]
        assert {_is_held_out(name) for name in names} == {held_out}
    assert World(5).dialogue() == World(5).dialogue()


def test_facts_and_what_is_kept_are_made_by_their_script(tmp_path: Any) -> None:
    from glmstudio.demo.make_facts import main

    main(tmp_path)
    for name in ("facts.jsonl", "kept.jsonl"):
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes()
