"""The plan notices conversations that begin alike, and says what it gains to compute that once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from glmstudio.config.presets import load_preset
from glmstudio.data.openings import openings_of
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.store import prepare
from glmstudio.paths import DEMO
from glmstudio.planning.memory_fit import device_memory_of
from glmstudio.planning.plan import Plan, make_plan
from glmstudio.planning.probe import Probe
from glmstudio.planning.sharing import Sharing
from glmstudio.train.shared_prefix import prompts_of
from glmstudio.ui.finetune import form_actions, review
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state.form_state import read_form
from glmstudio.ui.state.page_state import FinetuneState
from tests.waiting import until

LONG = "You are a careful assistant of a large library, who answers in one short sentence and names the shelf. " * 2


def conversation(system: str, number: int) -> dict[str, Any]:
    said = [{"role": "user", "content": f"Book {number}?"}, {"role": "assistant", "content": f"Shelf {number}."}]
    return {"conversations": [*([{"role": "system", "content": system}] if system else []), *said]}


def a_file(folder: Path, prompts: int, each: int) -> Path:
    """Conversations on so many prompts, `each` of them on one; without a prompt where there are 0."""
    made = [
        conversation(f"{LONG} {p}" if prompts else "", p * each + n)
        for p in range(max(1, prompts))
        for n in range(each)
    ]
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in made))
    return file


def planned(file: Path, **changes: Any) -> Plan:
    settings = dataclasses.replace(load_preset("demo/ptuning_v2").settings, data=str(file), **changes)
    store = prepare(file, DEMO / "model")
    return make_plan(settings, device_memory_of("cpu"), store, store.select("drop", settings.max_length))


def test_conversations_on_few_prompts_are_noticed_with_a_gain_of_their_tokens(home: Path, tmp_path: Path) -> None:
    file = a_file(tmp_path, 10, 8)
    plan = planned(file)
    assert plan.sharing is not None
    assert (plan.sharing.most, plan.sharing.alike, plan.sharing.looked_at) == (2, 80, 80)
    store = prepare(file, DEMO / "model")
    chosen = store.select("drop", 512)
    user = Tokenizer(DEMO / "model").special["<|user|>"]
    found = openings_of(store, chosen.rows, chosen.ends, user)
    exact = chosen.ends.sum() / (chosen.ends.sum() - found.length[::2].sum())  # of two one is not computed again
    assert plan.sharing.gain == pytest.approx(float(exact))
    trained = prompts_of(store, chosen.rows, chosen.ends, user, 2)
    assert trained.length.tolist() == found.length.tolist(), "what is counted is what the training shares"


@pytest.mark.parametrize(
    ("prompts", "each", "changes"),
    [(0, 60, {}), (60, 1, {}), (10, 8, {"packing": False}), (10, 8, {"shared_prompts": 4}), (10, 8, {"batch_size": 1})],
)
def test_where_nothing_is_gained_nothing_is_proposed(
    prompts: int, each: int, changes: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    assert planned(a_file(tmp_path, prompts, each), **changes).sharing is None


def test_one_prompt_for_all_is_shared_by_a_whole_step(home: Path, tmp_path: Path) -> None:
    sharing = planned(a_file(tmp_path, 1, 40)).sharing
    assert sharing is not None
    assert sharing.most == 8


def test_the_page_proposes_it_and_one_click_takes_it(home: Path, tmp_path: Path) -> None:
    form = FinetuneState(source="file", data=str(a_file(tmp_path, 10, 8)), preset="demo/ptuning_v2")
    until(lambda: (clear_caches(), read_form(form).plan)[1])
    said = review.render_plan("en", form)
    assert "80 of 80 conversations begin with the same tools or system prompt" in said
    assert "an estimate from token counts" in said
    assert "按词元数估算" in review.render_plan("zh", form)
    taken = form_actions.act(form, {"act": "share-prompts"})
    assert dict(taken.changes) == {"shared_prompts": "2"}
    clear_caches()
    assert 'data-act="share-prompts"' not in review.render_plan("en", taken)


def test_a_gain_that_was_measured_is_told_as_such() -> None:

    sharing = Sharing(4, 1.7, 10, 10)
    assert sharing.measured_gain(Probe("done", 100.0)) is None
    assert dataclasses.replace(sharing, probe=Probe("done", 150.0)).measured_gain(Probe("done", 100.0)) == 1.5
