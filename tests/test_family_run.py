"""One of the other families the whole way: trained by torchrun, resumed, exported, served, and asked by a client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from openai import OpenAI
from transformers import AutoModelForCausalLM

from glmstudio.config.presets import load_preset
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.glm.load import load_model
from glmstudio.models.library import add_folder
from glmstudio.rundir.checkpoints import list_checkpoints
from glmstudio.runs.export import export_run
from glmstudio.runs.resume import resume_run
from glmstudio.runs.start import start_run
from tests.family_models import write_whole
from tests.run_helpers import ended
from tests.servers import TOKEN, served
from tests.sharded_runs import STEPS, TOLERANCE, alone, losses, together
from tests.sharded_runs import run as run_folder

pytestmark = pytest.mark.slow
TOOLS = [{"type": "function", "function": {"name": "rain", "description": "", "parameters": {"type": "object"}}}]
CITIES = ("北京", "上海")


def ask(city: str) -> dict[str, str]:
    return {"role": "user", "content": f"{city}?"}


def conversations(folder: Path) -> Path:
    """Two questions and their calls, which are learned by heart in a few steps."""
    file = folder / "calls.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for city in CITIES:
            function = {"name": "rain", "arguments": json.dumps({"city": city}, ensure_ascii=False)}
            answer = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": function}],
            }
            stream.write(json.dumps({"tools": TOOLS, "messages": [ask(city), answer]}, ensure_ascii=False) + "\n")
    return file


def test_a_family_from_a_folder_to_a_call(home: Path, tmp_path: Path) -> None:
    base = write_whole("glm4_0414", tmp_path / "tiny", hidden_size=64, intermediate_size=128, head_dim=16)
    assert add_folder(str(base)).ready
    changes = {
        "model": str(base), "steps": 20, "batch_size": 1, "accumulation": 2, "save_every": 10, "learning_rate": 1e-2,
        "warmup_steps": 0, "max_length": 1024, "validation_auto": False, "method": "full", "device": "cpu",
    }  # fmt: skip
    preset = load_preset("demo/full")
    run = start_run(preset, data=conversations(tmp_path), name="first", changes=changes)
    assert ended(run) == ("finished", None)
    assert [each.step for each in list_checkpoints(run.path / "checkpoints")] == [10, 20]

    again = resume_run(run, step=10)
    assert ended(again) == ("finished", None)
    seen = [[row["loss"] for row in each.metrics(0)[0] if "loss" in row] for each in (run, again)]
    assert seen[0] == seen[1]
    assert seen[0][0] > 5
    assert seen[0][-1] < 0.01

    folder = export_run(again, "native", tmp_path / "exported", kind="float32")
    stranger = AutoModelForCausalLM.from_pretrained(folder)
    assert type(stranger).__name__ == "Glm4ForCausalLM"
    ids = torch.tensor([Tokenizer(base).encode("北京今天")])
    with torch.inference_mode():
        own = load_model(again.result or tmp_path, dtype=torch.float32, device="cpu")(input_ids=ids).logits
        torch.testing.assert_close(stranger(input_ids=ids).logits, own, atol=1e-5, rtol=0)

    with served(tmp_path, "--model", str(folder), "--device", "cpu") as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN)
        name = client.models.list().data[0].id
        for city in CITIES:
            answer = client.chat.completions.create(model=name, messages=[ask(city)], tools=TOOLS, temperature=0)
            (call,) = answer.choices[0].message.tool_calls or []
            assert (call.function.name, json.loads(call.function.arguments)) == ("rain", {"city": city})
            assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.rare  # two trainings alone, and two by torchrun
def test_two_processes_divide_each_kind_of_model(home: Path, tmp_path: Path) -> None:
    """With four norms in a block, and with a head that is the embedding: as one process alone, to the checkpoint."""
    data = conversations(tmp_path)
    plain, divided = [], []
    for name in ("glm4_0414", "glm_edge"):
        base = write_whole(name, tmp_path / name)
        changes = {"model": str(base), "data": str(data), "max_length": 512, "accumulation": 2, "batch_size": 1, "validation_share": 0.0}  # fmt: skip
        plain.append(run_folder(tmp_path / f"{name}-plain", **changes))
        divided.append(run_folder(tmp_path / f"{name}-fsdp", engine="fsdp", **changes))
    alone_losses = [alone(each) for each in plain]
    together(2, *divided)
    for wanted, one, other in zip(alone_losses, plain, divided, strict=True):
        assert losses(other) == pytest.approx(wanted, rel=TOLERANCE)
        last = f"checkpoints/checkpoint-{STEPS}"
        mine, theirs = (load_model(each / last, dtype=torch.float32, device="cpu") for each in (other, one))
        for (name, own), (_, its) in zip(mine.named_parameters(), theirs.named_parameters(), strict=True):
            if not name.endswith("k_proj.bias"):  # its gradient is nearly nothing, and Adam makes steps of the noise
                torch.testing.assert_close(own, its, rtol=1e-3, atol=1e-4, msg=name)
        tied = mine.config.tie_word_embeddings
        assert (mine.lm_head.weight is mine.model.embed_tokens.weight) is tied
