"""Runs in the environment that has lm-evaluation-harness: `python -m tests.lm_evals NATIVE … TASKS JOBS`.

Each NATIVE is a folder with a native GLM and ChatGLM's `tokenizer.model`, which gets a tokenizer that transformers
loads. TASKS is a folder of tasks, JOBS a file: a list of {"model", "args", "batch"} for `simple_evaluate`. Prints, as
its last line, what each of them answered to each task.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.files import write_json

ASKED = ["glm_choice", "glm_text"]


def main(natives: list[Path], tasks: Path, jobs: Path) -> None:
    """Print the answers as JSON."""
    for each in natives:
        make_tokenizer(each)
    manager = TaskManager(include_path=str(tasks))
    found = [answers(job, manager) for job in json.loads(jobs.read_text(encoding="utf-8"))]
    print(json.dumps(found))


def make_tokenizer(folder: Path) -> None:
    """ChatGLM's vocabulary as a fast tokenizer, with its two marks before each text as the original one has them."""
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "legacy": False})
    special = Tokenizer(folder).special
    made = AutoTokenizer.from_pretrained(folder)
    made.add_tokens(list(CHATGLM3.special), special_tokens=True)
    assert made.convert_tokens_to_ids(list(CHATGLM3.special)) == list(special.values())
    marks = [(name, special[name]) for name in ("[gMASK]", "sop")]
    made.backend_tokenizer.post_processor = TemplateProcessing(single="[gMASK] sop $A", special_tokens=marks)
    made.save_pretrained(folder)
    (folder / "tokenizer.model").unlink()


def answers(job: dict[str, Any], manager: TaskManager) -> dict[str, list[Any]]:
    """What a model answered, by task: for a choice, the log-likelihood of each option and whether it is the greedy one."""
    told = simple_evaluate(
        model=job["model"], model_args=job["args"], batch_size=job["batch"], device="cpu", tasks=ASKED,
        task_manager=manager, bootstrap_iters=0,
    )  # fmt: skip
    assert told is not None
    return {name: [each["filtered_resps"] for each in told["samples"][name]] for name in ASKED}


if __name__ == "__main__":
    *natives, tasks, jobs = map(Path, sys.argv[1:])
    main(natives, tasks, jobs)
