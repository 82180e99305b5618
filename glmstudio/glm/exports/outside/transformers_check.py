"""An exported folder as a stranger reads it, with transformers alone: `python -I THIS_FILE FOLDER ASKED TOLD`.

ASKED is a JSON file (conversations, tokens of an answer, an adapter's folder or null); TOLD, a file of torch, gets
the ids of each prompt, the logits after its last token, and each greedy answer. Other versions of transformers run
it, too.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from typing import Any

import torch
import transformers


def main(folder: str, asked_file: str, told_file: str) -> None:
    """As above."""
    if importlib.util.find_spec("glmstudio") is not None:
        raise SystemExit("the studio is in this process's path")
    with open(asked_file, encoding="utf-8") as file:
        asked = json.load(file)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompts = [prompt_of(tokenizer, each) for each in asked["conversations"]]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **{_dtype_word(): getattr(torch, asked["dtype"])})
    stops = model.generation_config.eos_token_id
    if asked["adapter"]:
        import peft

        model = peft.PeftModel.from_pretrained(model, asked["adapter"])
    told = {"prompts": prompts, "version": transformers.__version__, "kind": type(model).__name__}
    told |= answers(model.eval(), prompts[: asked["asked"]], stops, asked["length"])
    torch.save(told, told_file)


def prompt_of(tokenizer: Any, conversation: dict[str, Any]) -> list[int]:
    """The ids of one prompt, by the template of the folder."""
    text = tokenizer.apply_chat_template(
        conversation["messages"], tools=conversation["tools"], add_generation_prompt=True, tokenize=False
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def answers(model: Any, prompts: list[list[int]], stops: Any, length: int) -> dict[str, Any]:
    """Logits after each prompt, the greedy answer of up to `length` tokens, and by how much each token of it won."""
    word = "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"
    logits, given, leads = [], [], []
    for prompt in prompts:
        kept = {word: transformers.DynamicCache(), "use_cache": True} if length else {"use_cache": False}
        row = _row(model, prompt, kept)
        logits.append(row)
        ids: list[int] = []
        lead: list[float] = []
        while len(ids) < length:
            best = row.topk(2)
            ids.append(int(best.indices[0]))
            lead.append(float(best.values[0] - best.values[1]))
            if ids[-1] in stops or len(ids) == length:
                break
            row = _row(model, ids[-1:], kept)
        given.append(ids)
        leads.append(lead)
    return {"logits": torch.stack(logits), "answers": given, "leads": leads}


def _row(model: Any, ids: list[int], kept: dict[str, Any]) -> torch.Tensor:
    """The logits after the last of these."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), **kept).logits[0, -1].float()


def _dtype_word() -> str:
    """`torch_dtype` up to transformers 4.55, `dtype` since."""
    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"


if __name__ == "__main__":
    main(*sys.argv[1:4])
