"""Folders that call themselves `chatglm` and are something else are refused in words, before anything is loaded."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from glmstudio.cli import main
from glmstudio.config.presets import find_preset
from glmstudio.errors import StudioError
from glmstudio.glm.load import load_model
from glmstudio.models.catalogue import add_id
from glmstudio.models.family import family_named
from glmstudio.models.folder import folder_problems
from glmstudio.models.library import add_folder
from glmstudio.models.verify import verify
from glmstudio.paths import DEMO, SAMPLE
from glmstudio.planning.resolve import RunRequest, resolve

TENSORS = load_file(DEMO / "model" / "model.safetensors")
ROLES = 'special_tokens = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"{more}]\n'
SECOND_SUM = "cdf1bf57d519abe11043e9121314e76bc0934993e649a9e438a4b0894f4e6ee8"


def model(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    folder.mkdir()
    about = json.loads((DEMO / "model" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | config))
    shutil.copy(DEMO / "model" / "tokenizer.model", folder)
    save_file(TENSORS | (tensors or {}), folder / "model.safetensors")
    return folder


def refused(folder: Path) -> str:
    """What every way to the model says of it: adding, both checks, the plan, and the load."""
    said = {str(problem) for full in (False, True) for problem in verify(folder, full=full)}
    request = RunRequest(find_preset("demo/ptuning_v2"), SAMPLE, changes={"model": str(folder)})
    said.add(str(resolve(request).problem))
    for use in (load_model, lambda each: add_folder(str(each))):
        with pytest.raises(StudioError) as error:
            use(folder)
        said.add(str(error.value))
    (only,) = said
    return only


LOOKALIKES = {
    "rows of another": ({"padded_vocab_size": 151552, "_name_or_path": "THUDM/codegeex4-all-9b"}, "CodeGeeX4-9B"),
    "vision": ({"vision_config": {"hidden_size": 8}}, "GLM-4V-9B"),
    "name": ({"_name_or_path": "THUDM/chatglm2-6b"}, "ChatGLM2-6B"),
    "cache": ({"_name_or_path": "/c/models--THUDM--chatglm2-6b/snapshots/d2e2d917"}, "ChatGLM2-6B"),
    "code": ({"_name_or_path": "THUDM/codegeex2-6b"}, "CodeGeeX2-6B"),
    "first": ({"position_encoding_2d": True}, "ChatGLM-6B"),
}


@pytest.mark.parametrize("case", LOOKALIKES)
def test_what_says_chatglm_and_is_another_is_named_on_every_way(case: str, tmp_path: Path, home: Path) -> None:
    config, family = LOOKALIKES[case]
    folder = model(tmp_path / "folder", **config)
    assert refused(folder) == (
        f"The folder {folder} holds {family}. Its config.json is like that of a model that works here, but it is another "
        "model; the studio works with ChatGLM3, GLM-4-9B, GLM-Z1-9B and GLM-Edge. Choose a folder with one of these, or "
        "download one in the Model step. Downloading these files again does not help."
    )


@pytest.mark.parametrize(
    ("kind", "name", "family"),
    [
        ("qwen2", "Qwen/Qwen2.5-7B-Instruct", "QWEN2.5"), ("llama", None, "Llama"), ("glm4_moe", "zai-org/GLM-4.5-Air", "GLM-4.5-Air"),
        ("glm4_moe_lite", None, "GLM-4.7-Flash"), ("glm_ocr", None, "GLM-OCR"), ("glm4v", None, "GLM-4.1V"),
    ],
)  # fmt: skip
def test_another_type_is_named_on_every_way(kind: str, name: str, family: str, tmp_path: Path, home: Path) -> None:
    folder = model(tmp_path / "folder", model_type=kind, _name_or_path=name)
    assert refused(folder).startswith(
        f"The file {folder}/config.json describes {family} (type “{kind}”); the studio works with ChatGLM3, "
        "GLM-4-9B, GLM-Z1-9B and GLM-Edge."
    )


def test_chatglm2_is_told_by_its_tokenizer_without_roles(tmp_path: Path, home: Path) -> None:
    second, third = model(tmp_path / "second"), model(tmp_path / "third")
    (second / "tokenization_chatglm.py").write_text(ROLES.format(more=""))
    (third / "tokenization_chatglm.py").write_text(ROLES.format(more=', "<|system|>", "<|user|>"'))
    assert "holds ChatGLM2-6B / CodeGeeX2-6B." in refused(second)
    assert verify(third, full=True) == []


def test_chatglm2_is_told_by_its_checksums(tmp_path: Path, home: Path) -> None:
    noted, cached = model(tmp_path / "noted"), model(tmp_path / "cached")
    notes = noted / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "model.safetensors.metadata").write_text(f"d2e2d917\n{SECOND_SUM.upper()}\n1700000000.0\n")
    (tmp_path / "blobs").mkdir()
    (cached / "model.safetensors").rename(tmp_path / "blobs" / SECOND_SUM)
    (cached / "model.safetensors").symlink_to(tmp_path / "blobs" / SECOND_SUM)
    for folder in (noted, cached):
        assert "holds ChatGLM2-6B." in refused(folder)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_glm_4s_vocabulary_beside_other_weights_is_found(end: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "glm4")
    ranks = "".join(f"{base64.b64encode(bytes([at])).decode()} {at}{end}" for at in range(256))
    (folder / "tokenizer.model").write_bytes(ranks.encode())
    assert [str(problem) for problem in verify(folder, full=True)] == [
        f"The vocabulary {folder}/tokenizer.model has 270 tokens, and the weights beside it have 1600 rows for them: it "
        "belongs to another model. Copy the tokenizer.model of these weights here, or repair the model in the Model step or "
        "with `python launcher.py models repair`."
    ]


QUANTISED: dict[str, tuple[dict[str, Any], dict[str, torch.Tensor], str]] = {
    "4 bits": ({"quantization_bit": 4}, {}, "are quantized to 4 bits in ChatGLM's own format"),
    "8 bits": ({"quantization_bit": 8}, {}, "are quantized to 8 bits in ChatGLM's own format"),
    "by its tensors": ({}, {"transformer.encoder.layers.0.mlp.dense_h_to_4h.weight_scale": torch.ones(4)}, "8 or 4 bits in ChatGLM's own"),
    "GPTQ": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, {}, "are quantized (gptq)"),
}  # fmt: skip


@pytest.mark.parametrize("case", QUANTISED)
def test_small_weights_are_named_with_what_helps(case: str, tmp_path: Path, home: Path) -> None:
    config, tensors, said = QUANTISED[case]
    folder = model(tmp_path / "small", tensors, **config)
    (problem,) = verify(folder, full=True)
    assert said in problem.what()
    assert problem.fix() == (
        "Choose or download the model with its 16-bit weights. Fine-tuning and chat can quantize those to 8 or 4 bits when "
        "they load them."
    )
    if config:
        assert refused(folder) == str(problem)


def test_weights_of_another_program_are_named(tmp_path: Path) -> None:
    folder = model(tmp_path / "ggml")
    (folder / "model.safetensors").rename(folder / "chatglm3-ggml-q4_0.bin")
    (problem,) = folder_problems(folder)
    assert problem.what().endswith(
        "holds weights for llama.cpp or chatglm.cpp, which can be neither fine-tuned nor loaded here."
    )


def test_an_id_of_another_family_is_refused_before_its_gigabytes(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("zai-org/glm-4v-9b", "THUDM/chatglm2-6b", "Qwen/Qwen2.5-7B", "ZhipuAI/GLM-4.7-Flash"):
        assert main(["models", "add", name]) == 1
        assert f"“{name}” is " in capsys.readouterr().err
    assert add_id("someone/my-chatglm3-tuned").name == "my-chatglm3-tuned"
    assert add_id("me/better-than-llama").name == "better-than-llama"


@given(where=st.text("abc/-_ .", max_size=20), third=st.sampled_from(["chatglm3-6b", "ChatGLM3-6B-32k", "chatglm3"]))
def test_a_path_that_ends_in_chatglm3_is_ours_whatever_is_before_it(where: str, third: str) -> None:
    for other in ("", "chatglm2", "glm-4", "Qwen", "LLaMA-Factory"):
        assert family_named(f"{other}/{where}/{third}") == ""
        assert family_named(f"{third}/{where}/x") == ""
        assert family_named(f"{third}/{where}/THUDM/chatglm2-6b") == "ChatGLM2-6B"
    assert family_named(f"/root/LLaMA-Factory/{where.replace('c', 'x')}/output") == ""


@pytest.mark.parametrize(
    ("kind", "needs"),
    [
        ("glm4_moe", "This is a mixture of experts: it would need layers that are not here, and far more memory."),
        ("deepseek_v3", "This is a mixture of experts: it would need layers that are not here, and far more memory."),
        ("glm4v", "This model reads images: it would need an image encoder, which is not here."),
        ("glm_ocr", "This model reads images: it would need an image encoder, which is not here."),
        ("qwen2", ""), ("llama", ""),
    ],
)  # fmt: skip
def test_what_another_type_would_need_is_told(kind: str, needs: str, tmp_path: Path) -> None:
    (problem,) = verify(model(tmp_path / "folder", model_type=kind), full=True)
    assert problem.what().endswith("ChatGLM3, GLM-4-9B, GLM-Z1-9B and GLM-Edge." + (f" {needs}" if needs else ""))
