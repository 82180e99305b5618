"""Folders for transformers: what a stranger reads in them is what the studio computes, and they come back whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GlmForCausalLM

from glmstudio.config.presets import load_preset
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.glm.adapters.adapter_files import save_peft
from glmstudio.glm.export_process import export
from glmstudio.glm.exports.native_folder import write_native
from glmstudio.glm.exports.reference_answers import ExportSource, reference_answers
from glmstudio.glm.exports.self_check import TRANSFORMERS, check_with
from glmstudio.glm.exports.weight_stream import WeightStream
from glmstudio.glm.load import load_model
from glmstudio.models.exports.export_request import ExportRequest
from glmstudio.models.exports.model_export import export_model, native_base
from glmstudio.models.exports.new_folder import new_folder
from glmstudio.models.folder import check_folder
from glmstudio.models.library import add_folder, ready_model
from glmstudio.models.verify import verify
from glmstudio.paths import DEMO, ROOT
from glmstudio.planning.model_shape import shape_of
from glmstudio.rundir.run import wait_for_end
from glmstudio.runs.start import start_run
from tests import adapters
from tests.namespaces import python_on_small_disk
from tests.waiting import until

MODEL = DEMO / "model"
GOLDEN = Path(__file__).parent / "golden/model"
IDS = torch.tensor([[5, 17, 40, 3, 99, 12, 7]])


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def native(folder: Path, adapter: Path | None = None, dtype: str = "float32") -> Path:
    write_native(WeightStream(MODEL, adapter), folder, dtype)
    return folder


def theirs(folder: Path) -> GlmForCausalLM:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def ours(folder: Path, adapter: Path | None = None) -> GlmForCausalLM:
    return load_model(folder, adapter, dtype=torch.float32, device="cpu")


def test_transformers_computes_the_same(tmp_path: Path) -> None:
    folder = native(tmp_path / "native")
    model = theirs(folder)
    assert type(model).__name__ == "GlmForCausalLM"
    assert torch.allclose(logits(model), logits(ours(MODEL)), atol=1e-5)
    assert model.generation_config.eos_token_id == list(Tokenizer(MODEL).stop_ids)
    assert "_from_model_config" not in read_json(folder / "generation_config.json")
    config = read_json(folder / "config.json")
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10000.0
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert read_json(folder / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert AutoTokenizer.from_pretrained(folder).eos_token_id == 2


def test_an_adapter_is_merged_a_slice_at_a_time(tmp_path: Path) -> None:
    adapter = adapters.lora(tmp_path / "lora", 3)
    tuned = logits(ours(MODEL, adapter))
    assert (tuned - logits(ours(MODEL))).abs().max() > 0.1
    assert torch.allclose(logits(theirs(native(tmp_path / "float32", adapter))), tuned, atol=2e-5)
    half = logits(theirs(native(tmp_path / "float16", adapter, "float16")))
    assert torch.allclose(half, tuned, atol=0.1), "16-bit numbers"
    assert {each.dtype for each in load_file(tmp_path / "float16/model.safetensors").values()} == {torch.float16}


def test_peft_puts_adapters_and_prefixes_on_it(tmp_path: Path) -> None:
    folder = native(tmp_path / "native")
    lora = adapters.lora(tmp_path / "lora", 3)
    assert torch.allclose(logits(PeftModel.from_pretrained(theirs(folder), lora)), logits(ours(MODEL, lora)), atol=1e-5)
    prefix = adapters.prefix(tmp_path / "prefix", 4)
    own = ours(MODEL, prefix)
    save_peft(own, tmp_path / "peft", base=str(folder))
    found = PeftModel.from_pretrained(theirs(folder), tmp_path / "peft").eval()
    assert torch.allclose(logits(found), logits(own), atol=1e-5)


def test_what_float16_cannot_hold_becomes_bfloat16(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(MODEL, base)
    tensors = {name: each.float() for name, each in load_file(base / "model.safetensors").items()}
    tensors["transformer.encoder.final_layernorm.weight"][0] = 1e6
    save_file(tensors, base / "model.safetensors")
    assert write_native(WeightStream(base), tmp_path / "out", "float16") == "bfloat16"
    assert read_json(tmp_path / "out/config.json")["dtype"] == "bfloat16"
    assert {each.dtype for each in load_file(tmp_path / "out/model.safetensors").values()} == {torch.bfloat16}
    tensors["transformer.encoder.final_layernorm.weight"][0] = float("nan")
    save_file(tensors, base / "model.safetensors")
    with pytest.raises(StudioError, match=r"The tensor model\.norm\.weight has values that are not finite"):
        write_native(WeightStream(base), tmp_path / "nan", "float16")


def test_many_shards_have_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmstudio.glm.exports.native_folder._SHARD", 1 << 20)
    folder = native(tmp_path / "native", dtype="float16")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 3
    assert shards[0].name == f"model-00001-of-{len(shards):05}.safetensors"
    assert torch.allclose(logits(theirs(folder)), logits(ours(MODEL)), atol=1e-5)
    assert torch.equal(logits(ours(folder)), logits(ours(MODEL)))


def test_a_native_folder_is_a_model_of_the_studio(tmp_path: Path, home: Path) -> None:
    folder = native(tmp_path / "my model", dtype="float16")
    check_folder(folder)
    assert verify(folder, full=True) == []
    assert add_folder(str(folder)).ready
    assert torch.equal(logits(ours(folder)), logits(ours(MODEL)))
    assert shape_of(folder) == shape_of(MODEL)
    again = tmp_path / "again"
    write_native(WeightStream(folder), again, "float16")
    first, second = (load_file(each / "model.safetensors") for each in (folder, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (again / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("old", [False, True])
def test_a_folder_that_transformers_saved_is_read(tmp_path: Path, old: bool) -> None:
    theirs(native(tmp_path / "native", dtype="float16")).save_pretrained(tmp_path / "saved")
    shutil.copyfile(MODEL / "tokenizer.model", tmp_path / "saved/tokenizer.model")
    if old:  # transformers 4 has the angles at the top
        config = read_json(tmp_path / "saved/config.json")
        rope = config.pop("rope_parameters")
        write_json(tmp_path / "saved/config.json", config | {"rope_theta": rope["rope_theta"], "rope_scaling": None})
    check_folder(tmp_path / "saved")
    assert torch.allclose(logits(ours(tmp_path / "saved")), logits(ours(MODEL)), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_act": "gelu"}, "`hidden_act` is gelu"),
        ({"tie_word_embeddings": True}, "`tie_word_embeddings` is True"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "`rope_type` is yarn"),
        ({"rope_parameters": {"rope_theta": float("inf")}}, "`rope_theta` is inf"),
        ({"partial_rotary_factor": 1.0, "rope_parameters": None}, "`partial_rotary_factor` is 1.0"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
        ({"vocab_size": None}, "lacks the values vocab_size"),
        ({"head_dim": None}, "lacks the values head_dim"),
        ({"vocab_size": 151552}, "of another kind than that of GLM-4-9B"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"model_type": "glm4"}, "of another kind than that of GLM-4-9B-0414"),
    ],
)
def test_another_glm_is_refused_by_what_differs(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    folder = native(tmp_path / "native", dtype="float16")
    config = read_json(folder / "config.json") | change
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(StudioError, match=r".") as caught:
        check_folder(folder)
    assert said in caught.value.what()


def test_a_new_folder_is_whole_or_not_there(tmp_path: Path, home: Path) -> None:
    target = tmp_path / "a" / "b"

    def write(place: Path, then: Callable[[], Any]) -> None:
        with new_folder(place) as part:
            part.mkdir()
            (part / "half").write_text("x")
            then()

    with pytest.raises(ZeroDivisionError):
        write(target, lambda: 1 // 0)
    assert list(target.parent.iterdir()) == []
    with new_folder(target) as part:
        part.mkdir()
        with pytest.raises(StudioError, match="Another export is writing"), new_folder(target):
            pass
    assert target.is_dir()
    with pytest.raises(StudioError, match="already exists"), new_folder(target):
        pass
    with pytest.raises(StudioError, match="already exists"):
        write(tmp_path / "c", (tmp_path / "c").mkdir)  # somebody else, meanwhile
    assert list((tmp_path / "c").iterdir()) == []


KILLED = """
import sys
from pathlib import Path
from glmstudio.models.exports.new_folder import new_folder
with new_folder(Path(sys.argv[1])) as part:
    part.mkdir()
    (part / "half").write_text("x")
    print("half", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_export_left_goes_at_the_next(tmp_path: Path, home: Path) -> None:
    target = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(target)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as half:
        assert half.stdout is not None
        assert half.stdout.readline() == "half\n"
        half.send_signal(signal.SIGKILL)
    assert not target.exists()
    with new_folder(target) as part:
        part.mkdir()
    assert list(target.iterdir()) == []
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


@pytest.mark.slow  # a real export is begun, 8 s
def test_sigkill_ends_who_writes_and_leaves_no_folder(tmp_path: Path, home: Path) -> None:
    target = tmp_path / "out"
    command = [sys.executable, "-m", "glmstudio", "models", "export", "demo", "--to", "native", str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as export:
        until((tmp_path / ".out.part" / "model.safetensors").is_file)
        writing = psutil.Process(export.pid).children(recursive=True)
        assert writing
        export.kill()
    until(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in writing))
    assert not target.exists()


ON_A_FULL_DISK = """
import json, os
from pathlib import Path
from glmstudio.errors import StudioError
from glmstudio.models.exports.model_export import export_model
told, home = [], Path(os.environ["GLMSTUDIO_HOME"])
for form in ("native", "gguf"):
    try:
        export_model("demo", form, home / "out", kind="f16" if form == "gguf" else "")
    except StudioError as error:
        told.append([error.what(), [each.name for each in home.iterdir() if each.name != "state"]])
print(json.dumps(told))
"""


@pytest.mark.slow  # two real exports are begun, 10 s
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs the right to mount a disk")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    told = python_on_small_disk(ON_A_FULL_DISK, tmp_path / "home", size="3m")
    assert [left for _, left in told] == [[], []]
    assert all("No space left on device" in what for what, _ in told)


@pytest.mark.slow  # a process with transformers reads it, 12 s
def test_an_export_is_checked_by_a_stranger_and_remembered(tmp_path: Path, home: Path) -> None:
    target = tmp_path / "demo for others"
    assert export_model("demo", "native", target) == target
    assert native_base(ready_model("demo")) == str(target)
    readme = (target / "README.md").read_text(encoding="utf-8")
    assert "the token ids of 20 prompts are equal" in readme
    assert "20 of 20 greedy answers are equal" in readme
    assert "vllm serve './demo for others' --enable-auto-tool-choice" in readme
    assert str(tmp_path) not in "".join(
        file.read_text() for file in target.glob("*.[jm][sd]*") if file.suffix != ".model"
    )
    with pytest.raises(StudioError, match="already exists"):
        export_model("demo", "native", target)
    with pytest.raises(StudioError, match="cannot have the type “int4”"):
        export_model("demo", "native", tmp_path / "x", kind="int4")


@pytest.mark.slow  # a process with transformers reads it, 10 s
def test_where_memory_is_short_less_is_compared_and_the_card_says_so(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1 << 20))
    learned = adapters.lora(tmp_path / "lora", 3)
    out = tmp_path / "out"
    export(ExportRequest("native", str(MODEL), "demo", str(out), "mine", learned=str(learned), kind="float16"))
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "the token ids of 20 prompts are equal; after 3 of them the logits" in readme
    assert "computed in float16" in readme


@pytest.mark.slow  # a process with transformers and PEFT reads each, 20 s
@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_an_adapter_names_the_exported_base_and_is_checked_on_it(tmp_path: Path, home: Path, kind: str) -> None:
    base = native(tmp_path / "base", dtype="float16")
    learned = getattr(adapters, kind)(tmp_path / kind, 3)
    request = ExportRequest(
        "peft", str(MODEL), "demo", str(tmp_path / "out"), "mine", learned=str(learned), native_base=str(base)
    )
    export(request)
    assert read_json(tmp_path / "out/adapter_config.json")["base_model_name_or_path"] == str(base)
    readme = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "the token ids of 20 prompts are equal; after 20 of them the logits" in readme
    assert "greedy answers" not in readme, "only logits were compared"
    assert str(tmp_path) not in readme
    tensors = load_file(tmp_path / "out/adapter_model.safetensors")
    if kind == "lora":  # another adapter than the one that the studio answers with
        shutil.copytree(tmp_path / "out", tmp_path / "wrong")
        more = {name: each + 0.5 for name, each in tensors.items()}
        save_file(more, tmp_path / "wrong/adapter_model.safetensors")
        reference = reference_answers(ExportSource(MODEL, tmp_path / "out"), None, merge=False)
        with pytest.raises(StudioError, match="computes other values"):
            check_with(TRANSFORMERS, base, reference, adapter=tmp_path / "wrong")


@pytest.mark.slow  # two processes with transformers read what is wrong, 25 s
@pytest.mark.parametrize(
    ("module", "name", "problem"),
    [
        ("native_folder", "chat_template", "exports.other_ids"),
        ("weight_stream", "native_tensors", "exports.other_"),
    ],
)
def test_a_difference_keeps_nothing(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, problem: str
) -> None:
    """Written wrongly in one place, as a mistake of ours would: the stranger finds it."""
    import glmstudio.models.exports.model_export as asking
    from glmstudio.glm import export_process

    def in_this_process(_: str, request: str, *, broke: str) -> dict[str, Any]:
        export_process.export(ExportRequest.from_json(request))
        return {}

    monkeypatch.setattr(asking, "ask", in_this_process)
    where = sys.modules[f"glmstudio.glm.exports.{module}"]
    right = getattr(where, name)

    def wrong(*given: Any, **more: Any) -> Any:
        made = right(*given, **more)
        if isinstance(made, str):
            return made.replace('{{ " " }}', "")
        return {key: each.flip(0) if "o_proj" in key else each for key, each in made.items()}

    monkeypatch.setattr(where, name, wrong)
    with pytest.raises(StudioError) as caught:
        export_model("demo", "native", tmp_path / "out")
    assert caught.value.key.startswith(problem)
    assert list(tmp_path.iterdir()) == [home] or not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.slow  # a short training, 15 s
def test_a_native_folder_is_tuned_and_its_run_loads(tmp_path: Path, home: Path) -> None:
    folder = native(tmp_path / "native", dtype="float16")
    changes = {"model": str(folder), "steps": 2, "save_every": 2, "batch_size": 4}
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join((DEMO / "sample.jsonl").read_text(encoding="utf-8").splitlines()[:12]), encoding="utf-8")
    run = start_run(load_preset("demo/lora"), data=data, name="native", changes=changes)
    assert wait_for_end(run, seconds=120).state == "finished", run.log()[0][-2000:]
    assert run.result is not None
    assert until(lambda: ours(folder, run.result) is not None)
