"""Folders that call themselves `chatglm` and are something else are refused in words, before anything is loaded."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.glm.load import load_model
from glmstudio.models.folder import folder_problems
from glmstudio.models.library import add_folder
from glmstudio.paths import DEMO

TENSORS = load_file(DEMO / "model" / "model.safetensors")
PREFIX = {"transformer.prefix_encoder.embedding.weight": torch.zeros(4, 8)}


def model(
    folder: Path, tensors: dict[str, torch.Tensor] | None = None, form: str = "safetensors", **config: Any
) -> Path:
    folder.mkdir()
    about = json.loads((DEMO / "model" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | config))
    shutil.copy(DEMO / "model" / "tokenizer.model", folder)
    held = TENSORS | (tensors or {})
    if form == "safetensors":
        save_file(held, folder / "model.safetensors")
    elif form == "bin":
        torch.save(held, folder / "pytorch_model.bin")
    else:  # shards, and the prefix in the last
        names = sorted(held)
        parts = {"a.safetensors": names[:10], "b.safetensors": names[10:]}
        for file, part in parts.items():
            save_file({name: held[name] for name in part}, folder / file)
        index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("form", ["safetensors", "bin", "shards"])
def test_a_whole_model_with_a_prefix_never_answers_as_the_bare_base(form: str, tmp_path: Path, home: Path) -> None:
    folder = model(tmp_path / "official", PREFIX, form)
    said = (
        f"The folder {folder} holds a complete model together with a P-Tuning prefix. Loaded as a model, it would "
        "answer without the prefix. Load the base model, and as its adapter a checkpoint with the prefix alone, as "
        "the official P-Tuning script saves it."
    )
    assert [str(problem) for problem in folder_problems(folder)] == [said]
    for refused in (load_model, lambda each: add_folder(str(each))):
        with pytest.raises(StudioError) as error:
            refused(folder)
        assert str(error.value) == said
    assert list(folder_problems(model(tmp_path / "plain", None, form))) == []


def test_glm_4_is_named_by_its_config_before_its_weights_are_looked_at(tmp_path: Path) -> None:
    folder = model(tmp_path / "glm-4-9b-chat", padded_vocab_size=151552)
    with pytest.raises(StudioError) as error:
        load_model(folder)
    assert str(error.value) == (
        f"The folder {folder} holds GLM-4-9B. Its config.json says “chatglm”, as ChatGLM3's does, but it is another "
        "model with another vocabulary. Choose a folder with ChatGLM3-6B, ChatGLM3-6B-Base or ChatGLM3-6B-32K, or "
        "download one in the Model step. Downloading these files again does not help."
    )
    assert next(folder_problems(folder)).key == "models.glm4"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_glm_4_is_named_by_its_vocabulary(end: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "glm4")
    ranks = "".join(f"{base64.b64encode(bytes([at])).decode()} {at}{end}" for at in range(256))
    (folder / "tokenizer.model").write_bytes(ranks.encode())
    assert [problem.key for problem in folder_problems(folder)] == ["models.glm4"]
    with pytest.raises(StudioError, match="holds GLM-4-9B"):
        Tokenizer(folder)


def test_a_vocabulary_of_text_that_is_no_list_of_ranks_is_not_called_glm_4(tmp_path: Path) -> None:
    folder = model(tmp_path / "page")
    (folder / "tokenizer.model").write_text("<html>\nlog in 5\n")
    with pytest.raises(StudioError) as error:
        Tokenizer(folder)
    assert error.value.key == "data.tokenizer_broken"


def test_chatglms_own_small_weights_are_named(tmp_path: Path) -> None:
    folder = model(tmp_path / "int4", quantization_bit=4)
    with pytest.raises(StudioError) as error:
        load_model(folder)
    assert str(error.value) == (
        f"The weights in {folder} are quantized to 4 bits in ChatGLM's own format, which can be neither fine-tuned "
        "nor loaded here. Choose or download the model with its 16-bit weights. Fine-tuning and chat can quantize "
        "those to 8 or 4 bits when they load them."
    )
