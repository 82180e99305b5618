"""Each GLM family as a tiny random model: loaded from its published layout, the same as transformers' own class."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.nn import functional
from transformers import AutoModelForCausalLM, GlmForCausalLM

from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.glm import quantization
from glmstudio.glm.adapters.adapter_files import save_peft, save_prefix
from glmstudio.glm.adapters.lora import EVERY, Lora, attach_lora
from glmstudio.glm.adapters.lora_files import save_lora
from glmstudio.glm.adapters.prefix import Prefix, attach_prefix
from glmstudio.glm.batch_generation import generate
from glmstudio.glm.kv_cache import GrowingCache
from glmstudio.glm.load import load_model
from glmstudio.glm.quantization import QuantizedLinear
from glmstudio.glm.weights.model_config import native_config, stored_config
from glmstudio.glm.weights.whole_model import read_whole, save_whole
from glmstudio.serve import decoders
from glmstudio.serve.decoders import EagerDecoder, StaticCacheDecoder
from glmstudio.train.batches import joined, padded
from glmstudio.train.model_with_loss import ModelWithLoss
from glmstudio.train.optimizer import adamw
from tests.family_models import CONFIGS, FAMILIES, PUBLISHED, ROWS, theirs, write_family
from tests.trainer_helpers import loss_and_gradients

MAIN = ["glm-4-9b-chat", "glm-4-9b-0414", "glm-edge"]  # what differs in the model itself
OTHERS = [family for family in FAMILIES if family not in MAIN]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("families")
    return {family: write_family(family, home / family) for family in FAMILIES}


def ours(folder: Path, adapter: Path | None = None, bits: int = 16) -> GlmForCausalLM:
    return load_model(folder, adapter, dtype=torch.float32, device="cpu", bits=bits)


def tokens(count: int, seed: int = 1) -> list[int]:
    return torch.randint(1, 150, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0]


def rows_of(*lengths: int) -> list[dict[str, Any]]:
    """Conversations of which the last third is learned."""
    found = []
    for seed, length in enumerate(lengths):
        ids = torch.tensor(tokens(length, seed))
        labels = ids.clone()
        labels[: -length // 3] = -100
        found.append({"input_ids": ids, "labels": labels, "weight": 1 / len(lengths)})
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_greedy_answers_are_those_of_transformers(family: str, folders: dict[str, Path]) -> None:
    model, wanted, ids = ours(folders[family]), theirs(family), tokens(23)
    assert type(model).__name__ == type(wanted).__name__
    torch.testing.assert_close(logits(model, ids), logits(wanted, ids), atol=1e-5, rtol=0)
    given = {"max_new_tokens": 16, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    answers = [each.generate(torch.tensor([ids]), **given)[0].tolist() for each in (model, wanted)]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 23 + 16


@pytest.mark.parametrize("family", MAIN)
def test_padding_on_the_left_changes_no_answer(family: str, folders: dict[str, Path]) -> None:
    model, wanted = ours(folders[family]), theirs(family)
    prompts = [tokens(19, 2), tokens(5, 3), tokens(11, 4)]
    found = dict(generate(model, prompts, [ROWS], limit=16))
    for place, prompt in enumerate(prompts):
        alone = wanted.generate(
            torch.tensor([prompt]), max_new_tokens=16, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert found[place].ids == alone[0, len(prompt) :].tolist()
    mask = torch.tensor([[0] * 6 + [1] * 5])
    padded_row = torch.tensor([[0] * 6 + prompts[1]])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        left = model(input_ids=padded_row, attention_mask=mask, position_ids=positions).logits[0, 6:]
    torch.testing.assert_close(left, logits(wanted, prompts[1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("family", MAIN)
def test_loss_and_gradients_are_those_of_transformers(
    family: str, packing: bool, checkpointing: bool, folders: dict[str, Path]
) -> None:
    rows = rows_of(24, 9, 15)
    settings = Settings(method="full", gradient_checkpointing="on" if checkpointing else "off")
    pack = joined(rows) if packing else padded(rows)
    loss, gradients = loss_and_gradients(folders[family], settings, [pack])

    wanted = theirs(family).train()
    total = torch.zeros(())
    for row in rows:
        scored = wanted(input_ids=row["input_ids"][None]).logits[0, :-1]
        one = functional.cross_entropy(scored, row["labels"][1:], ignore_index=-100, reduction="sum")
        total = total + one * row["weight"]
    total.backward()
    torch.testing.assert_close(loss, total.detach(), rtol=1e-4, atol=1e-6)
    norms = {name: float(each.grad.norm()) for name, each in wanted.named_parameters()}
    assert gradients.keys() == norms.keys()
    for name, each in gradients.items():
        assert float(each.norm()) == pytest.approx(norms[name], rel=1e-4, abs=1e-7), name


@pytest.mark.parametrize("family", MAIN)
def test_a_lora_adapter_is_the_same_for_peft_on_the_folder(
    family: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model, ids = ours(folders[family]), tokens(12)
    attach_lora(model, Lora(4, 8.0, 0.0, EVERY))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.normal_(std=0.3)
    save_lora(model.eval(), tmp_path / "adapter", base="tiny")
    native = folders[family] if family not in PUBLISHED else tmp_path / "native"
    if family in PUBLISHED:
        theirs(family).save_pretrained(native)
    base = AutoModelForCausalLM.from_pretrained(native)
    peft = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    torch.testing.assert_close(logits(peft, ids), logits(model, ids), atol=1e-5, rtol=0)
    assert torch.equal(logits(ours(folders[family], tmp_path / "adapter"), ids), logits(model, ids))
    assert not torch.allclose(logits(theirs(family), ids), logits(model, ids), atol=1e-2)


@pytest.mark.parametrize("family", MAIN)
def test_a_prefix_is_the_same_for_peft_and_through_our_form(
    family: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """PEFT counts the tokens from the prefix on; the keys are turned for that, the whole head of a GLM-Edge's."""
    model, ids = ours(folders[family]), tokens(12)
    torch.manual_seed(5)
    prefix = Prefix(model.config, 6)
    prefix.initialise(1.0)
    attach_prefix(model, prefix.eval())
    save_prefix(model, tmp_path / "own", base="tiny")
    save_peft(model, tmp_path / "peft", base="tiny")
    assert torch.equal(logits(ours(folders[family], tmp_path / "own"), ids), logits(model, ids))
    torch.testing.assert_close(
        logits(ours(folders[family], tmp_path / "peft"), ids), logits(model, ids), atol=1e-5, rtol=0
    )
    peft = PeftModel.from_pretrained(theirs(family), str(tmp_path / "peft")).eval()
    torch.testing.assert_close(logits(peft, ids)[-12:], logits(model, ids), atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", MAIN)
def test_one_token_at_a_time_is_the_whole_pass(
    family: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In growing places and in fixed ones, as CUDA graphs have them; and through small weights, which are not fused."""
    monkeypatch.setattr(decoders, "_SMALLEST", 16)
    monkeypatch.setattr(quantization, "_library_four", lambda: None)
    prompt, answer = tokens(10), tokens(12, 7)
    for bits in (16, 4):
        model = ours(folders[family], bits=bits)
        for made in (EagerDecoder(model), StaticCacheDecoder(model, graphs=False)):
            with torch.inference_mode():
                made.begin("", GrowingCache(model.config))
                rows = [made.read(prompt)] + [made.step(token) for token in answer]
                made.end()
            wanted = logits(model, prompt + answer)[9:]
            torch.testing.assert_close(torch.stack(rows), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("family", MAIN)
def test_small_weights_answer_much_the_same_and_keep_norms_and_head(
    family: str, bits: int, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "_library_four", lambda: None)
    small, ids = ours(folders[family], bits=bits), tokens(20)
    near = functional.cosine_similarity(logits(small, ids).flatten(), logits(theirs(family), ids).flatten(), dim=0)
    assert 0 < 1 - float(near) < (2e-3 if bits == 8 else 0.1)
    linear = [each for each in small.model.layers.modules() if isinstance(each, torch.nn.Linear)]
    assert all(isinstance(each, QuantizedLinear) for each in linear)
    assert not isinstance(small.lm_head, QuantizedLinear)
    assert {each.dtype for name, each in small.named_parameters() if "norm" in name} == {torch.float32}
    tied = small.config.tie_word_embeddings
    assert (small.lm_head.weight is small.model.embed_tokens.weight) is tied


@pytest.mark.parametrize(("form", "shards"), [("safetensors", True), ("bin", False), ("bin", True)])
@pytest.mark.parametrize("family", MAIN)
def test_shards_and_pickled_tensors_are_the_same_model(family: str, form: str, shards: bool, tmp_path: Path) -> None:
    model = ours(write_family(family, tmp_path / "other", form=form, shards=shards))
    ids = tokens(9)
    torch.testing.assert_close(logits(model, ids), logits(theirs(family), ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_model_is_written_for_transformers_and_read_back(
    family: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model, ids = ours(folders[family]), tokens(9)
    save_whole(model, tmp_path / "whole", base=folders[family])
    again = ours(tmp_path / "whole")
    assert torch.equal(logits(again, ids), logits(model, ids))
    stranger = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    torch.testing.assert_close(logits(stranger, ids), logits(model, ids), atol=1e-5, rtol=0)
    shapes = {name: each.shape for name, each in model.named_parameters()}
    assert {name for name, _ in read_whole(tmp_path / "whole", shapes, model.config)} == set(shapes)


def test_a_step_moves_a_tied_head_once(folders: dict[str, Path]) -> None:
    scored = ModelWithLoss(ours(folders["glm-edge"]))
    pack = joined(rows_of(12, 9))
    del pack["tokens"]
    optimizer = adamw(scored, 1e-2)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(scored.parameters()))
    before = float(scored(**pack)["loss"].detach())
    for _ in range(5):
        optimizer.zero_grad()
        scored(**pack)["loss"].backward()
        optimizer.step()
    assert float(scored(**pack)["loss"].detach()) < before - 0.5
    assert scored.glm.lm_head.weight is scored.glm.model.embed_tokens.weight


def test_a_head_of_its_own_in_a_tied_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    for same in (True, False):
        folder = write_family("glm-edge", tmp_path / str(same), form="bin")
        state = torch.load(folder / "pytorch_model.bin", weights_only=True)
        assert "lm_head.weight" in state
        if same:
            ours(folder)
            continue
        state["lm_head.weight"] = state["lm_head.weight"] + 1
        torch.save(state, folder / "pytorch_model.bin")
        with pytest.raises(StudioError, match=r"pytorch_model.bin holds “lm_head.weight”, which does not fit"):
            ours(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_survives_being_written(family: str) -> None:
    config = CONFIGS[family]
    again = native_config(json.loads(json.dumps(stored_config(config))), "config.json")
    names = set(stored_config(config)) - {"architectures", "initializer_range", "rope_theta", "partial_rotary_factor"}
    for name in names:
        assert getattr(again, name) == getattr(config, name), name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "`rope_type` is yarn"),
        ({"hidden_act": "gelu"}, "`hidden_act` is gelu"),
        ({"partial_rotary_factor": 0.3}, "`partial_rotary_factor` is 0.3"),
        ({"partial_rotary_factor": 2.0}, "`partial_rotary_factor` is 2.0"),
        ({"rope_theta": "10000"}, "`rope_theta` is 10000"),
        ({"pad_token_id": ROWS}, f"`pad_token_id` is {ROWS}"),
        ({"eos_token_id": [1, "x"]}, "`eos_token_id` is"),
    ],
)
def test_what_is_not_done_here_is_named(given: dict[str, Any], said: str) -> None:
    config = copy.deepcopy(stored_config(CONFIGS["glm-4-9b-0414"]))
    del config["rope_parameters"]
    with pytest.raises(StudioError, match=said):
        native_config(config | given, "config.json")
