"""A score of facts: what counts as learned and kept, what is said of it, and a real one that survives being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glmstudio.config.presets import load_preset
from glmstudio.data.formats.facts import Fact
from glmstudio.families.message import Message
from glmstudio.knowledge.asking import Asking, ModelAnswer, ModelUnderTest, QuestionToAsk
from glmstudio.knowledge.exam import Question, exam
from glmstudio.knowledge.materials import kept_questions, prompt_tools
from glmstudio.knowledge.result import BASE, TUNED, Count, FactsScore, scored, verdict, wilson
from glmstudio.knowledge.score_report import as_csv, as_markdown, as_text
from glmstudio.knowledge.scoring import last_score, of_run
from glmstudio.models import ready_model
from glmstudio.paths import DEMO, FACTS
from glmstudio.rundir.checkpoints import list_checkpoints
from glmstudio.rundir.run import Run, wait_for_end
from glmstudio.runs.start import start_run
from tests.waiting import until

TOOL = {"name": "clock", "description": "", "parameters": {}}
KEPT = [
    Question("kept", "2 + 2?", "4", ("4",)),
    Question("kept", "3 + 3?", "6", ("6",)),
    Question("kept", "Time?", "", (), (TOOL,), {"name": "clock", "arguments": {"city": "Oslo"}}),
]
NUMBERS = [
    Fact(f"What is the number of town {n}?", f"Town {n} has {n}00.", (f"Town {n}'s number?",), (), (f"Village {n}?",))
    for n in (3, 4)
]
CALL = "clock\n ```python\ntool_call(city='Oslo')\n```"


def answers(said: dict[str, dict[str, str]], questions: list[Question]) -> dict[tuple[str, str], ModelAnswer]:
    """What base and tuned said: by the question (with " +" for the form with tools), else nothing of use."""
    found = {}
    for who in (BASE, TUNED):
        for each in questions:
            asked = f"{each.asked} +" if each.tools and each.line != "kept" else each.asked
            text = said[who].get(asked, said[who].get("*", "I do not know."))
            found[who, each.key] = ModelAnswer(
                text if text == CALL else f"\n {text}", True, -2.0 if who == BASE else -0.5
            )
    return found


QUESTIONS = exam(NUMBERS, KEPT, [TOOL])
SAID = {
    BASE: {"2 + 2?": "4", "Time?": CALL},
    TUNED: {
        "What is the number of town 3?": "It has 300.", "What is the number of town 3? +": "Town 3 has 300.",
        "What is the number of town 4?": "Town 4 has 400.", "What is the number of town 4? +": "Town 4 has 40.",
        "Town 3's number?": "300", "Town 3's number? +": "300", "Village 3? +": "Town 3 has 300.", "2 + 2?": "5", "3 + 3?": "6",
        "Time?": CALL,
    },
}  # fmt: skip


def test_the_six_lines_and_what_changed() -> None:
    score = scored(QUESTIONS, answers(SAID, QUESTIONS), ("plain", "tools"), tuned=True)
    told = score.to_json()
    assert {line: told[line] for line in ("learned", "generalised", "applied", "kept", "overreach", "broken")} == {
        "learned": {"base": 0, "tuned": 1, "of": 2},
        "generalised": {"base": 0, "tuned": 1, "of": 2},
        "applied": None,
        "kept": {"base": 2, "tuned": 1, "of": 2},
        "overreach": {"base": 0, "tuned": 1, "of": 2},
        "broken": {"base": 0, "tuned": 0, "of": 15},
    }
    assert told["kind"] == "facts"
    assert told["by_form"]["plain"]["learned"] == {"base": 0, "tuned": 2, "of": 2}
    assert told["likelihood"] == {"base": -2.0, "tuned": -0.5}
    assert [flip["question"] for flip in told["flips"] if not flip["better"]] == ["Village 3?", "2 + 2?"]
    assert len(told["flips"]) == 2 + 3 + 2 + 1
    assert told["verdict"] == (
        "Learned 1 of 2. Asked in wordings that it was not trained on: 1 of 2. 1 of 2 other answers that were "
        "right before still are. It gives a new answer to 1 of 2 neighbouring questions. Train for more epochs, or "
        "give it more capacity: a higher rank, or full fine-tuning."
    )
    assert verdict("zh", score) == (
        "学会了 1/2 条。用没有训练过的问法，答对 1/2 个。原来答对的其他问题，现在仍答对 1/2 个。有 1/2 个相邻问题被答成了新答案。请多训练几轮，或给它更大的容量：更大的秩，或全量微调。"
    )
    assert FactsScore.from_json(json.loads(json.dumps(told))) == score


def test_a_base_alone_shows_what_it_knows_already() -> None:
    said = {BASE: {"What is the number of town 4?": "400"}, TUNED: {}}
    score = scored(QUESTIONS, answers(said, QUESTIONS), ("plain",), tuned=False)
    assert score.known == (1,)
    assert score.to_json()["learned"] == {"base": 1, "tuned": None, "of": 2}
    assert (score.flips, verdict("en", score)) == (
        (),
        "Learned 1 of 2. Asked in wordings that it was not trained on: 0 of 2.",
    )


def test_facts_that_are_only_known_without_tools_are_told_so() -> None:
    said: dict[str, dict[str, str]] = {BASE: {}, TUNED: {}}
    for fact in NUMBERS:
        said[TUNED] |= {fact.question: fact.answer, fact.wordings[0]: fact.answer}
    score = scored(QUESTIONS, answers(said, QUESTIONS), ("plain",), tuned=True)
    assert score.counts["learned"] == Count(0, 2, 2)
    assert "With tools in the prompt it knows fewer facts: train the facts with tools, too" in verdict("en", score)


@pytest.mark.parametrize(
    ("count", "of", "expected"),
    [(0, 20, (0.0, 0.161)), (19, 20, (0.764, 0.991)), (5, 10, (0.237, 0.763)), (0, 0, (0, 1))],
)
def test_the_interval_is_wilsons(count: int, of: int, expected: tuple[float, float]) -> None:
    """Against the published tables of the score interval."""
    assert wilson(count, of) == pytest.approx(expected, abs=6e-4)


def test_a_report_holds_what_a_model_says_as_text() -> None:
    said = {BASE: {"2 + 2?": "4"}, TUNED: {"2 + 2?": "=HYPERLINK(1) | **b** <script>\n# x"}}
    score = scored(QUESTIONS, answers(said, QUESTIONS), ("plain",), tuned=True)
    row = next(line for line in as_markdown("en", score, "r|un").splitlines() if "2 + 2" in line)
    assert row == r"| Kept | 2 + 2? | 4 | =HYPERLINK(1) \| \*\*b\*\* \<script\> \# x |"
    assert as_markdown("en", score, "r|un").startswith("## r\\|un\n")
    assert "'=HYPERLINK(1) | **b** <script>" in as_csv(score)
    assert "No longer correct · Kept · without tools: 2 + 2?" in as_text("en", score)


def test_the_demos_questions_are_about_its_own_tools(home: Path) -> None:
    demo = ready_model("demo")
    kept = kept_questions(demo)
    assert len(kept) == 60
    assert sum(each.call is not None for each in kept) == 36
    assert {tool["name"] for each in kept for tool in each.tools} < {tool["name"] for tool in prompt_tools(demo)}


def wait(asking: Asking, wanted: Any) -> Any:
    return until(lambda: look if wanted(look := asking.look()) else None, 180, asking.look)


def hello(count: int) -> list[QuestionToAsk]:
    return [QuestionToAsk(f"q{n}", [Message("user", f"Hello {n}.")], "Hello!") for n in range(count)]


@pytest.mark.slow  # 20 s
def test_what_was_asked_is_kept_through_a_kill(home: Path) -> None:
    asking = Asking(home / "state/scores/x")
    part = ModelUnderTest(BASE, str(DEMO / "model"))
    assert asking.look().total == 0
    asking.start([part], hello(600))
    asking.start([part], hello(600))  # a second click
    wait(asking, lambda look: look.done > 10)
    os.kill(int(json.loads((asking.place / "job.json").read_text())["identity"]["pid"]), signal.SIGKILL)
    look = wait(asking, lambda look: not look.running)
    assert look.problem is not None
    assert look.problem.what("en").startswith("Asking was interrupted after ")
    before = len(asking.answers())
    assert 10 < before < 600
    with (asking.place / "answers.jsonl").open("a") as file:
        file.write('{"mark": "half a li')

    asking.start([part], hello(600))
    assert wait(asking, lambda look: not look.running).whole
    found = asking.answers()
    assert len(found) == 600
    assert all(said.likelihood is not None and said.text for said in found.values())
    rows = (asking.place / "answers.jsonl").read_text().splitlines()
    assert len(rows) <= 602, "what was answered before was not asked again"

    asking.start([part], hello(600))  # nothing is left to ask: no process, at once
    assert asking.look().whole


@pytest.mark.rare  # two minutes; tests/e2e/test_teach_facts.py goes the same way by clicking, in seven steps
def test_facts_are_taught_and_the_result_is_on_disk(clean: Path) -> None:
    run = start_run(load_preset("demo/facts"), name="f", changes={"epochs": 2.5, "early_stop": 50})
    state = wait_for_end(run, seconds=400)
    assert state.state == "finished", run.log()[0][-3000:]
    rows = [row for row in run.metrics()[0] if "learned" in row]
    assert len(rows) >= 8
    assert {(row["learned_of"], row["kept_of"]) for row in rows} == {(20, 16)}
    assert rows[-1]["learned"] > rows[0]["learned"]
    assert [each.facts is not None for each in list_checkpoints(run.path / "checkpoints")] == [True, True]
    assert run.learned_tools is True

    # Its supervisor has it scored.
    score = until(lambda: last_score(run), 180, lambda: (run.path / "score.log").read_text())
    assert score.counts["learned"] is not None
    assert score.counts["learned"].base == 0
    assert score.counts["learned"].of == 20
    assert score.counts["kept"] is not None
    assert score.counts["kept"].share() > 0.8
    command = [sys.executable, "-m", "glmstudio", "score", str(FACTS), "--model", "demo", "--adapter", "f", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert FactsScore.from_json(json.loads(done.stdout)) == score, "asked before: the same answers"
    assert of_run(run).asking.look().whole


@pytest.mark.rare  # half a minute
def test_a_run_ends_early_and_gives_its_best_checkpoint(clean: Path) -> None:
    """With a rate that ruins the model, what it had to keep is gone at the first look."""
    changes = {"epochs": 2, "early_stop": 2, "learning_rate": 0.1, "rehearsal": 0.2, "save_every": 3}
    run = start_run(load_preset("demo/facts"), name="early", changes=changes)
    state = wait_for_end(run, seconds=300)
    assert state.state == "finished", run.log()[0][-3000:]
    assert state.step < int(run.settings["steps"])
    assert last_row(run)["kept"] < 13


def last_row(run: Run) -> dict[str, Any]:
    return [row for row in run.metrics()[0] if "kept" in row][-1]
