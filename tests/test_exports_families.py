"""Exports of each family: what strangers make of the folder, the template and the GGUF file is what the studio does."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from glmstudio.chat.openai_messages import to_turns
from glmstudio.data.protocol.prompt import chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.families.known import FAMILIES
from glmstudio.glm.adapters.adapter_files import save_prefix
from glmstudio.glm.adapters.lora import EVERY, Lora, attach_lora
from glmstudio.glm.adapters.lora_files import save_lora
from glmstudio.glm.adapters.prefix import Prefix, attach_prefix
from glmstudio.glm.export_process import export
from glmstudio.glm.exports.chat_templates import chat_template
from glmstudio.glm.exports.gguf_file import write_gguf
from glmstudio.glm.exports.native_folder import write_native
from glmstudio.glm.exports.outside.gguf_reader import Model
from glmstudio.glm.exports.outside.transformers_check import prompt_of
from glmstudio.glm.exports.weight_stream import WeightStream
from glmstudio.glm.load import load_model
from glmstudio.models.exports.export_request import ExportRequest
from glmstudio.models.folder import check_folder
from tests.conversations import conversation
from tests.family_models import MODELS, write_whole

NAMES = list(MODELS)
IDS = [5, 17, 40, 3, 99, 12, 7]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("families")
    return {name: write_whole(name, home / name) for name in NAMES}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([IDS])).logits[0]


def ours(folder: Path, adapter: Path | None = None) -> Any:
    return load_model(folder, adapter, dtype=torch.float32, device="cpu")


def taught(folder: Path, where: Path) -> Path:
    """A LoRA adapter that does something."""
    model = ours(folder)
    attach_lora(model, Lora(4, 8.0, 0.0, EVERY))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.normal_(std=0.1)
    save_lora(model, where, base="tiny")
    return where


@pytest.mark.parametrize("name", NAMES)
def test_a_native_folder_is_the_model_for_transformers_and_for_the_studio(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "native"
    write_native(WeightStream(folders[name]), folder, "float32")
    check_folder(folder)
    wanted = logits(ours(folders[name]))
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(folder)), wanted, atol=1e-5, rtol=0)
    assert torch.equal(logits(ours(folder)), wanted)
    own, other, again = Tokenizer(folders[name]), AutoTokenizer.from_pretrained(folder), Tokenizer(folder)
    assert again.family is own.family is FAMILIES[name]
    assert again.special == own.special
    config = json.loads((folder / "config.json").read_text())
    assert (config["eos_token_id"], other.eos_token_id) == (list(own.stop_ids), own.end_id)
    assert (config["tie_word_embeddings"], config["model_type"]) == (
        name == "glm_edge",
        "glm4" if name in ("glm4_0414", "glm_z1") else "glm",
    )
    for text in ("你好，今天天气 2+2=4!\n", "isn't it? <think>\n 🙂", "  three   spaces\t\r\n\n12345"):
        ids = other(text, add_special_tokens=False)["input_ids"]
        assert ids == own.encode(text) == again.encode(text)
        assert other.decode(ids) == text


@pytest.mark.parametrize("name", NAMES)
def test_the_template_writes_what_the_studio_writes(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    write_native(WeightStream(folders[name]), tmp_path / "native", "float32")
    own, other = Tokenizer(folders[name]), AutoTokenizer.from_pretrained(tmp_path / "native")
    draw = random.Random(5)
    for _ in range(60):
        messages, tools = conversation(draw)
        asked = {"messages": messages, "tools": tools or None}
        assert prompt_of(other, asked) == chat_ids(own, to_turns(messages, tools)), asked


def checked(name: str, folders: dict[str, Path], out: Path, forms: tuple[tuple[str, str, bool], ...]) -> Path:
    """Export in each of the forms, of which each checks itself: twenty prompts, logits and greedy answers. Returns the
    adapter that was exported."""
    adapter = taught(folders[name], out / "adapter")
    for form, kind, learned in forms:
        target = out / f"{form}-{kind}"
        given = str(adapter) if learned else ""
        export(ExportRequest(form, str(folders[name]), name, str(target), "tiny", learned=given, kind=kind))
        assert any(target.iterdir())
    return adapter


@pytest.mark.slow  # another program reads each file, and its libraries take seconds to load
def test_forms_are_read_back_by_another_program(folders: dict[str, Path], tmp_path: Path) -> None:
    checked("glm_z1", folders, tmp_path, (("gguf", "q8_0", True),))


@pytest.mark.slow
@pytest.mark.rare  # the same for every family and form
@pytest.mark.parametrize("name", NAMES)
def test_each_form_of_each_family_is_read_back(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    forms = (("native", "float16", False), ("native", "float32", True), ("gguf", "f16", False), ("gguf", "q8_0", True))
    adapter = checked(name, folders, tmp_path, (*forms, ("gguf-lora", "", True), ("merged", "", True)))
    card = (tmp_path / "native-float32/README.md").read_text(encoding="utf-8")
    assert "--tool-call-parser" not in card
    assert "Neither line was run with this model." in card
    merged = logits(ours(tmp_path / "merged-"))
    assert torch.allclose(merged, logits(ours(folders[name], adapter)), atol=0.1), "16-bit numbers"


@pytest.mark.parametrize("name", NAMES)
def test_a_gguf_file_has_the_architecture_of_the_family(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    vocabulary = write_gguf(WeightStream(folders[name]), tmp_path / "f16.gguf", "f16", title="tiny")
    reader = GGUFReader(tmp_path / "f16.gguf")
    kind = "glm4" if name in ("glm4_0414", "glm_z1") else "chatglm"
    assert reader.fields["general.architecture"].contents() == kind
    assert reader.fields[f"{kind}.rope.dimension_count"].contents() == (8 if name == "glm_edge" else 4)
    names = {tensor.name for tensor in reader.tensors}
    assert ("output.weight" in names) is (name != "glm_edge")
    assert ("blk.0.attn_q.bias" in names) is (name != "glm_edge")
    assert ("blk.1.post_ffw_norm.weight" in names) is (kind == "glm4")
    own, fields = Tokenizer(folders[name]), reader.fields
    told = {each: fields[f"tokenizer.ggml.{each}"].contents() for each in (
        "model", "pre", "add_bos_token", "eos_token_id", "eot_token_id", "eom_token_id", "padding_token_id",
    )}  # fmt: skip
    assert told == {
        "model": "gpt2", "pre": "glm4", "add_bos_token": False, "eos_token_id": own.end_id,
        "eot_token_id": own.special["<|user|>"], "eom_token_id": own.special["<|observation|>"],
        "padding_token_id": own.pad_id,
    }  # fmt: skip
    assert len(fields["tokenizer.ggml.tokens"].contents()) == 640 == len(set(vocabulary.texts))
    template = fields["tokenizer.chat_template"].contents()
    assert not any(word in template for word in ("tools", "tool_call"))
    model = ours(folders[name])
    with torch.no_grad():
        for each in model.parameters():
            each.data = each.data if each.dim() == 1 else each.data.half().float()
    (found,) = Model(reader).logits([IDS], [0])
    assert np.abs(logits(model).numpy() - found).max() < 1e-4


def test_a_prefix_of_another_family_has_no_official_form(folders: dict[str, Path], tmp_path: Path) -> None:
    model = ours(folders["glm4_0414"])
    prefix = Prefix(model.config, 4)
    prefix.initialise()
    attach_prefix(model, prefix)
    save_prefix(model, tmp_path / "prefix", base="tiny")
    request = ExportRequest("official", str(folders["glm4_0414"]), "tiny", str(tmp_path / "out"), "tiny", learned=str(tmp_path / "prefix"))  # fmt: skip
    with pytest.raises(StudioError) as raised:
        export(request)
    assert raised.value.what() == "The official form of a prefix exists for ChatGLM3 only."
    assert raised.value.fix() == "Export it in PEFT's form: `python launcher.py runs export RUN --to peft FOLDER`."


def test_no_template_has_a_gap_left_to_fill() -> None:
    for family in FAMILIES.values():
        for tools in (True, False):
            text = chat_template(family, tools=tools)
            assert not [word for word in text.split("@")[1::2] if word.isupper()]
