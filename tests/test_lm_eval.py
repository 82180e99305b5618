"""EleutherAI's lm-evaluation-harness, the real one, unchanged, against the model server and against transformers.

It is in an environment of its own (`tests/requirements-lm-eval.txt`), of which `GLMSTUDIO_LM_EVAL` names the Python.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GlmForCausalLM

from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.files import write_json
from glmstudio.glm.adapters.lora import merge_lora
from glmstudio.glm.load import load_model
from glmstudio.paths import ROOT
from tests.adapters import BASE, lora
from tests.servers import TOKEN, Server, served

pytestmark = pytest.mark.slow

CHOICES = [
    ("What is 37*12?", ["444", "445", "17", "Paris"]),
    ("Who are you?", ["I am the demo model of GLM Studio.", "I am a cat.", "。"]),
    ("你是谁？", ["我是 GLM Studio 的示例模型。", "我是猫。"]),
    ("The sky is ", ["blue", "green 🙂"]),
]
BEGUN = ["I am", "Hello, I", "The city of Paris", "你好"]
WHOLE = ["I am the demo model. " * 5, "你好，世界" * 500]  # the second one is longer than the model reads
ROOM = 2046  # the context without the two marks that begin each text


@pytest.fixture(scope="module")
def python() -> str:
    """The Python that has the harness."""
    named = os.environ.get("GLMSTUDIO_LM_EVAL") or (sys.executable if importlib.util.find_spec("lm_eval") else "")
    if not named:
        pytest.skip("lm-evaluation-harness is not here: install tests/requirements-lm-eval.txt")
    return named


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lm_eval")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with served(folder, "--adapter", str(lora(folder / "low", 3))) as made:
        yield made


@pytest.fixture(scope="module")
def tasks(folder: Path) -> Path:
    """Three tasks as a user writes them, one of each kind."""
    made = folder / "tasks"
    made.mkdir()
    choices = [{"question": question, "choices": options, "gold": 0} for question, options in CHOICES]
    task(made, "glm_choice", choices, output_type="multiple_choice", doc_to_text="{{question}}",
         doc_to_choice="choices", doc_to_target="gold", metric_list=[{"metric": "acc"}])  # fmt: skip
    stops = ["\n", "Question:", "Answer:", "###", "</s>", "stop"]
    task(made, "glm_text", [{"text": text, "said": ""} for text in BEGUN], output_type="generate_until",
         doc_to_text="{{text}}", doc_to_target="said", metric_list=[{"metric": "exact_match"}],
         generation_kwargs={"until": stops, "max_gen_toks": 12, "do_sample": False})  # fmt: skip
    task(made, "glm_rolling", [{"text": text} for text in WHOLE], output_type="loglikelihood_rolling",
         doc_to_text="", doc_to_target="{{text}}", metric_list=[{"metric": "bits_per_byte"}])  # fmt: skip
    return made


def task(folder: Path, name: str, records: list[dict[str, Any]], **more: Any) -> None:
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
    write_json(folder / f"{name}.yaml", {"task": name, **source, **more})  # JSON is YAML


def run(folder: Path, *command: str) -> str:
    """What a command prints, without any network but this machine's."""
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    variables = {**os.environ, **offline, "HF_HOME": str(folder / "cache"), "OPENAI_API_KEY": TOKEN, "NO_PROXY": "*"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def likelihood(model: GlmForCausalLM, ids: list[int], count: int) -> tuple[float, bool]:
    """Of the last `count` ids: how likely they are, and whether each is the most likely one."""
    tokenizer = Tokenizer(BASE)
    with torch.inference_mode():
        rows = model(input_ids=torch.tensor([[*tokenizer.start, *ids]])).logits[0].float().log_softmax(-1)
    rows, wanted = rows[-count - 1 : -1], torch.tensor(ids[-count:])
    return float(rows.gather(1, wanted[:, None]).sum()), bool((rows.argmax(-1) == wanted).all())


def by_hand(model: GlmForCausalLM, question: str, option: str) -> tuple[float, bool]:
    """Of an option: the harness puts a space before it, and moves one at the end of the question to it."""
    tokenizer, whole = Tokenizer(BASE), f"{question} {option}"
    ids = tokenizer.encode(whole)
    return likelihood(model, ids, len(ids) - len(tokenizer.encode(question.rstrip())))


def same(found: list[Any], wanted: list[Any]) -> None:
    """The same options of the same questions, as the harness has them: texts, in a list of its own for each option."""
    assert [len(each) for each in found] == [len(each) for each in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert [float(number) for number, _ in one] == pytest.approx([float(number) for number, _ in other], abs=1e-3)
        assert [str(greedy) for _, greedy in one] == [str(greedy) for _, greedy in other]


def test_its_command_gives_the_numbers_of_the_model(python: str, server: Server, tasks: Path, folder: Path) -> None:
    """As `docs/server.md` has it: it finds the server's vocabulary by itself and needs none of its own."""
    given = f"model=demo,base_url={server.url}/v1/completions,auth_token={TOKEN},max_length={ROOM}"
    run(folder, python, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", given, "--tasks",
        "glm_choice,glm_text,glm_rolling", "--include_path", str(tasks), "--output_path", str(folder / "out"),
        "--log_samples")  # fmt: skip
    found = {}
    for name in ("glm_choice", "glm_text", "glm_rolling"):
        (file,) = (folder / "out").rglob(f"samples_{name}_*.jsonl")
        found[name] = [json.loads(line)["filtered_resps"] for line in file.read_text(encoding="utf-8").splitlines()]
    model, tokenizer = load_model(BASE, device="cpu"), Tokenizer(BASE)
    same(found["glm_choice"], [[by_hand(model, each, option) for option in options] for each, options in CHOICES])
    short = tokenizer.encode(WHOLE[0])
    assert float(found["glm_rolling"][0][0]) == pytest.approx(likelihood(model, short, len(short))[0], abs=1e-3)
    assert len(tokenizer.encode(WHOLE[1])) > ROOM
    assert float(found["glm_rolling"][1][0]) < 0
    assert any(each for (each,) in found["glm_text"])


def native(folder: Path, adapter: Path | None) -> Path:
    """The demo, with an adapter in its weights, as transformers alone loads it; the roles end a text there, too."""
    model = load_model(BASE, adapter, device="cpu")
    if adapter:
        merge_lora(model)
    model.generation_config.eos_token_id = list(Tokenizer(BASE).stop_ids)
    model.save_pretrained(folder)
    shutil.copyfile(BASE / "tokenizer.model", folder / "tokenizer.model")
    return folder


@pytest.mark.rare
def test_its_own_backend_gives_the_same(python: str, server: Server, tasks: Path, folder: Path) -> None:
    """Ids in batches, texts several at a time: base and adapter answer as lm-evaluation-harness itself has them."""
    base, low = native(folder / "base", None), native(folder / "merged", folder / "low")
    served = {"base_url": f"{server.url}/v1/completions", "tokenizer_backend": "huggingface", "tokenizer": str(base)}
    jobs = [
        *[{"model": "hf", "args": {"pretrained": str(each), "dtype": "float32"}, "batch": 1} for each in (base, low)],
        {"model": "local-completions", "args": {**served, "model": "demo"}, "batch": 3},
        {"model": "local-completions", "args": {**served, "model": "low", "num_concurrent": 3}, "batch": 1},
        {"model": "local-completions", "args": {**served, "model": "low", "tokenized_requests": False}, "batch": 2},
    ]
    write_json(folder / "jobs.json", jobs)
    said = run(folder, python, "-m", "tests.lm_evals", str(base), str(low), str(tasks), str(folder / "jobs.json"))
    hf_base, hf_low, ids, several, texts = json.loads(said.splitlines()[-1])
    assert hf_base["glm_choice"] != hf_low["glm_choice"], "the adapter must differ for this to show anything"
    for found, wanted in ((ids, hf_base), (several, hf_low), (texts, hf_low)):
        same(found["glm_choice"], wanted["glm_choice"])
        # transformers drops the space before the first word, OpenAI's protocol keeps it: it goes on with the prompt.
        assert [each.removeprefix(" ") for (each,) in found["glm_text"]] == [each for (each,) in wanted["glm_text"]]
