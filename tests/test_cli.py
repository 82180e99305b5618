"""The forms that other programs use: exact JSON, exit codes, errors with their hint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.vocabulary import GOLDEN, VOCABULARY, needs_vocabulary

ROOT = Path(__file__).parents[1]


def run(*words: str, lang: str = "C.UTF-8", home: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"LC_ALL": lang} | ({"GLMSTUDIO_HOME": str(home)} if home else {})
    return subprocess.run(
        [sys.executable, "-m", "glmstudio", *words], cwd=ROOT, env=env, capture_output=True, text=True
    )


@needs_vocabulary
def test_data_tokens_needs_only_a_tokenizer(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = json.loads((GOLDEN / "prompts.json").read_text(encoding="utf-8"))["train"]
    file = tmp_path / "records.json"
    file.write_text(json.dumps([case["item"] for case in cases], ensure_ascii=False), encoding="utf-8")
    done = run("data", "tokens", str(file), "--model", str(VOCABULARY), "--json")
    assert json.loads(done.stdout) == [{key: case[key] for key in ("input_ids", "labels")} for case in cases]


def test_data_check_prints_its_contract(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"prompt": "x", "response": "y"}\n{}\n')
    done = run("data", "check", str(file), "--json")
    reason = "The record has no list of messages under “conversations”."
    assert json.loads(done.stdout) == {
        "format": "pairs",
        "records": 1,
        "problems": [{"file": str(file), "line": 2, "reason": reason}],
    }
    assert done.returncode == 1


def test_data_check_says_once_what_many_records_have(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    record = {"prompt": "x", "response": "I am <NAME>.", "label": False}
    file.write_text("".join(json.dumps(record | {"prompt": str(number)}) + "\n" for number in range(40)))
    done = run("data", "check", str(file))
    lines = done.stdout.splitlines()
    assert len(lines) == 10 + 1 + 1 + 1  # ten of them, the others, the note, and the sum
    assert "30 more, on lines 11, 12, 13" in lines[10]
    assert lines[11].startswith(
        f"{file}: Placeholders that nobody filled in (<NAME>) stand in the answers of 40 records"
    )
    listed = run("data", "check", str(file), "--json")
    assert len(json.loads(listed.stdout)["problems"]) == 40
    assert "Placeholders" in listed.stderr


def test_data_check_of_mostly_bad_records_counts_what_it_does_not_list(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    bad = "".join(f'{{"prompt": "{number}"}}\n' for number in range(2500))
    file.write_text('{"prompt": "x", "response": "y"}\n' + bad + "[]\n")
    listed = json.loads(run("data", "check", str(file), "--json").stdout)
    assert listed["records"] == 1
    assert [each["line"] for each in listed["problems"]] == [*range(2, 1002), 2502]
    assert listed["more"] == [{"file": str(file), "like_line": 1001, "count": 1500}]
    lines = run("data", "check", str(file)).stdout.splitlines()
    assert len(lines) == 10 + 1 + 1 + 1
    assert lines[11].startswith(f"{file}:12: ")
    assert "2,490 more, on lines 12, 13, 14" in lines[11]
    assert lines[12] == "1 records can be trained on, 2501 cannot."


def test_data_convert_counts(tmp_path: Path) -> None:
    source, target = tmp_path / "in.json", tmp_path / "out.jsonl"
    good = {"input": "a", "intermediate_steps": [], "Final Thought": "b", "output": "c"}
    source.write_text(json.dumps([{"NLDocumentation": "x", "Instances": [good, {}]}]))
    done = run("data", "convert", "toolalpaca", str(source), str(target))
    assert done.stdout == f"Wrote 1 records to {target}; 1 were left out.\n"
    assert done.stderr == f"{source}:1: Instance 2 has no “input”.\n"
    assert len(target.read_text().splitlines()) == 1


@pytest.mark.torch
def test_chat_answers_one_question_as_json(home: Path) -> None:
    done = run("chat", "--model", "demo", "--prompt", "What is 37*12?", "--json", home=home)
    answer = json.loads(done.stdout)
    assert answer["content"] == "37*12 = 444."
    assert answer["calls"] == [{"name": "calculator", "arguments": {"expression": "37*12"}, "result": "444"}]
    assert [message["role"] for message in answer["messages"]] == ["assistant", "tool", "assistant"]


def test_models_are_listed(home: Path) -> None:
    models = json.loads(run("models", "--json", home=home).stdout)
    assert [(model["name"], model["kind"], model["state"], model["ready"], model["problem"]) for model in models] == [
        ("chatglm3-6b", "catalogue", "absent", False, None),
        ("chatglm3-6b-base", "catalogue", "absent", False, None),
        ("chatglm3-6b-32k", "catalogue", "absent", False, None),
        ("demo", "demo", "ready", True, None),
        ("glm-4-9b-chat", "catalogue", "absent", False, None),
        ("glm-4-9b", "catalogue", "absent", False, None),
        ("glm-4-9b-0414", "catalogue", "absent", False, None),
        ("glm-z1-9b-0414", "catalogue", "absent", False, None),
        ("glm-edge-1.5b-chat", "catalogue", "absent", False, None),
        ("glm-edge-4b-chat", "catalogue", "absent", False, None),
    ]


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("C.UTF-8", "error: There is no run named nope.\n\nhint: Run `python launcher.py runs list` to list the runs.\n"),
        ("zh_CN.UTF-8", "错误：没有名为 nope 的训练任务。\n\n提示：运行 `python launcher.py runs list` 查看现有训练任务。\n"),
    ],
)  # fmt: skip
def test_an_error_is_a_sentence_and_a_hint(home: Path, lang: str, words: str) -> None:
    done = run("runs", "show", "nope", lang=lang, home=home)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", words)


@pytest.mark.parametrize(
    "words",
    ["", "doctor", "models", "data", "data check", "data tokens", "data convert", "train", "runs", "runs list",
     "runs show", "runs stop", "chat", "serve"],
)  # fmt: skip
def test_every_command_has_help(words: str) -> None:
    done = run(*words.split(), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: launcher.py")


@pytest.mark.parametrize(("lang", "steps"), [("C.UTF-8", "Steps done: 0"), ("zh_CN.UTF-8", "已训练步数: 0")])
def test_a_run_is_shown_in_words(lang: str, steps: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"preset": "demo/ptuning_v2", "settings": {"steps": 5, "model": "demo"}}')
    (folder / "status.json").write_text('{"state": "failed", "problem": {"key": "runs.killed", "values": {}}}')
    (folder / "records.json").write_text('{"used": 1}')
    done = run("runs", "show", "first", lang=lang, home=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert steps in lines
    assert not any(line.startswith(("step:", "problem:", "records:", "None")) for line in lines)
