"""Files for llama.cpp: a reader that knows nothing of the writer has the same ids and logits from them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from glmstudio.chat.openai_messages import to_turns
from glmstudio.data.protocol.prompt import chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.families.message import Message
from glmstudio.glm.exports.chat_templates import chat_template, kept_apart
from glmstudio.glm.exports.gguf_adapter import write_gguf_adapter
from glmstudio.glm.exports.gguf_file import HIDES, rounded, write_gguf
from glmstudio.glm.exports.gguf_vocabulary import GgufVocabulary, gguf_vocabulary
from glmstudio.glm.exports.outside.gguf_reader import Model, Vocabulary, prompt_of
from glmstudio.glm.exports.sentencepiece_file import EVERY_NAME, SPECIAL_NAMES, read_pieces
from glmstudio.glm.exports.weight_stream import WeightStream
from glmstudio.glm.load import load_model
from glmstudio.models.exports.model_export import export_model
from glmstudio.paths import DEMO
from tests import adapters
from tests.conversations import conversation, text
from tests.vocabulary import VOCABULARY, needs_vocabulary
from tests.written import written

MODEL = DEMO / "model"
IDS = [[5, 17, 40, 3, 99, 12, 7], [1537, 1539, 1542, 300]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo model in both types."""
    folder = tmp_path_factory.mktemp("gguf")
    for kind in ("f16", "q8_0"):
        write_gguf(WeightStream(MODEL), folder / f"{kind}.gguf", kind, title="demo")
    return {kind: folder / f"{kind}.gguf" for kind in ("f16", "q8_0")}


def expected(kind: str, adapter: Path | None = None) -> list[torch.Tensor]:
    model = load_model(MODEL, adapter, dtype=torch.float32, device="cpu")
    with torch.inference_mode():
        for each in model.parameters() if adapter is None else ():
            each.data = rounded(kind, each.data).float()
        return [model(input_ids=torch.tensor([ids])).logits[0] for ids in IDS]


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_the_reader_computes_the_same(files: dict[str, Path], kind: str) -> None:
    found = Model(GGUFReader(files[kind])).logits(IDS, [0, 2])
    for own, other, at in zip(expected(kind), found, (0, 2), strict=True):
        assert np.abs(own[at:].numpy() - other).max() < 1e-4


def test_a_merged_adapter_is_in_it(tmp_path: Path) -> None:
    adapter = adapters.lora(tmp_path / "lora", 3)
    write_gguf(WeightStream(MODEL, adapter), tmp_path / "f16.gguf", "f16", title="tuned")
    found = Model(GGUFReader(tmp_path / "f16.gguf")).logits(IDS, [0, 0])
    for own, base, other in zip(expected("f16", adapter), expected("f16"), found, strict=True):
        assert np.abs(own.numpy() - other).max() < 0.1, "16-bit numbers"
        assert np.abs(base.numpy() - other).max() > 0.5


def test_an_adapter_alone_is_the_same_product(tmp_path: Path) -> None:
    adapter = adapters.lora(tmp_path / "lora", 3)
    assert write_gguf_adapter(MODEL, adapter, tmp_path / "lora.gguf", title="lora") < 1e-5
    reader = GGUFReader(tmp_path / "lora.gguf")
    assert reader.fields["general.architecture"].contents() == "chatglm"
    assert reader.fields["adapter.lora.alpha"].contents() == 8.0
    names = {tensor.name for tensor in reader.tensors}
    assert names == {f"blk.{n}.attn_{p}.weight.lora_{x}" for n in range(4) for p in "qkv" for x in "ab"}
    assert {tuple(map(int, each.shape)) for each in reader.tensors if each.name.endswith("attn_q.weight.lora_a")} == {
        (192, 4)
    }
    with pytest.raises(StudioError, match="a model of another size"):
        write_gguf_adapter(Path(__file__).parent / "golden/model", adapter, tmp_path / "no.gguf", title="lora")


def test_what_llama_cpp_must_know_stands_in_it(files: dict[str, Path]) -> None:
    fields = GGUFReader(files["q8_0"]).fields
    own = Tokenizer(MODEL)
    told = {name: fields[f"tokenizer.ggml.{name}"].contents() for name in (
        "model", "add_bos_token", "add_eos_token", "add_space_prefix", "eos_token_id", "eot_token_id", "eom_token_id", "padding_token_id",
    )}  # fmt: skip
    assert told == {
        "model": "llama", "add_bos_token": False, "add_eos_token": False, "add_space_prefix": False, "eos_token_id": 2,
        "eot_token_id": own.special["<|user|>"], "eom_token_id": own.special["<|observation|>"], "padding_token_id": 0,
    }  # fmt: skip
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == len(set(tokens)) == 1600 == fields["chatglm.vocab_size"].contents()
    assert tuple(tokens[own.pieces : own.size]) == SPECIAL_NAMES
    assert fields["chatglm.rope.dimension_count"].contents() == 24
    template = fields["tokenizer.chat_template"].contents()
    assert not any(word in template for word in ("tools", "tool_call")), "some programs decide by these words"


def told_by(vocabulary: GgufVocabulary) -> Vocabulary:
    """The reader's tokenizer, without a file."""
    made = Vocabulary.__new__(Vocabulary)
    made.texts, made.scores, made.spaced = vocabulary.texts, vocabulary.scores, vocabulary.spaced
    made.ids = {each: index for index, each in enumerate(made.texts)}
    found = [index for index, kind in enumerate(vocabulary.kinds) if kind in (2, 3, 4)]
    made.special = sorted(found, key=lambda index: -len(made.texts[index]))
    return made


@needs_vocabulary
def test_ids_of_chatglm3s_own_vocabulary() -> None:
    own, other = Tokenizer(VOCABULARY), told_by(gguf_vocabulary(read_pieces(VOCABULARY), 65024))
    chance = random.Random(21)
    for each in ("people", "philosophy", "<s>bold</s>", "a  b\n\n c", *(text(chance) for _ in range(1500))):
        plain = kept_apart(each, HIDES)
        assert other.encode(plain) == own.encode(plain), repr(each)
    tools, plain = (chat_template(tools=both, hides=HIDES) for both in (True, False))
    for _ in range(40):
        messages, listed = conversation(chance)
        said = written(to_turns(messages, listed))
        turns = [Message(turn.role, kept_apart(turn.content, HIDES), turn.metadata) for turn in said]
        asked = {"messages": messages, "tools": listed or None}
        if "tool_calls" in str(messages) or listed:
            assert prompt_of(other, tools, asked) == chat_ids(own, turns)
        else:
            assert prompt_of(other, plain, asked) == prompt_of(other, tools, asked) == chat_ids(own, turns)


def test_a_typed_role_name_never_is_the_role(files: dict[str, Path]) -> None:
    vocabulary = Vocabulary(GGUFReader(files["f16"]))
    template = GGUFReader(files["f16"]).fields["tokenizer.chat_template"].contents()
    said = "".join(EVERY_NAME)
    ids = prompt_of(vocabulary, template, {"messages": [{"role": "user", "content": said}]})
    special = Tokenizer(MODEL).special
    assert [each for each in ids if each >= min(special.values()) or each < 3] == [
        special["[gMASK]"], special["sop"], special["<|user|>"], special["<|assistant|>"],
    ]  # fmt: skip


def test_a_number_that_float16_cannot_hold_is_an_error(tmp_path: Path) -> None:
    stream = WeightStream(MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightStream, "_slices", lambda self, name, tensor: iter([tensor.float() * 1e9]))
        with pytest.raises(StudioError, match="that float16 cannot hold"):
            write_gguf(stream, tmp_path / "f16.gguf", "f16", title="x")


@pytest.mark.slow  # another process reads it, 8 s
def test_an_export_is_checked_and_described(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = export_model("demo", "gguf", tmp_path / "small")
    assert sorted(file.name for file in target.iterdir()) == [
        "Modelfile", "README.md", "chat_template_tools.jinja", "small-q8_0.gguf",
    ]  # fmt: skip
    assert "20 of 20 greedy answers are equal" in (target / "README.md").read_text(encoding="utf-8")
    assert (target / "Modelfile").read_text().startswith("FROM ./small-q8_0.gguf\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudioError, match="llama-quantize") as caught:
        export_model("demo", "gguf", tmp_path / "k", kind="Q4_K_M")
    assert "llama-quantize k-f16.gguf k-q4_k_m.gguf Q4_K_M" in caught.value.fix()
    assert not (tmp_path / "k").exists()
