"""Train the demo model: `python -m glmstudio.demo.make_model` (about an hour on two cores).

The same architecture as ChatGLM3-6B, 2 million parameters, trained from nothing on the dialogues of `world.py` and
saved in the published layout. Copying a name that it never saw into a call is the hard part; it comes after some
hundred steps.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional
from transformers import GlmConfig, GlmForCausalLM

from glmstudio.data.protocol.prompt import IGNORED, Example, training_example
from glmstudio.data.protocol.tokenizer import PAD, Tokenizer
from glmstudio.data.records import record_messages
from glmstudio.demo.world import World
from glmstudio.files import write_json
from glmstudio.glm.weights.layout import published_tensors
from glmstudio.glm.weights.model_config import published_config
from glmstudio.paths import DEMO

LEARNING_RATE, WARMUP = 1.5e-3, 100


def main() -> None:
    """Train and save; prints one line of JSON every 50 steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEMO / "model")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=36, help="dialogues in a step")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    tokenizer = Tokenizer(options.out)
    model = GlmForCausalLM(demo_config(tokenizer))
    train(model, tokenizer, options)
    save(model, options.out)


def demo_config(tokenizer: Tokenizer) -> GlmConfig:
    """The demo's shape: 4 layers of 192, 4 heads, 2 key-value groups."""
    return GlmConfig(
        vocab_size=math.ceil(tokenizer.size / 64) * 64,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=48,
        rms_norm_eps=1e-5,
        max_position_embeddings=2048,
        attention_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def train(model: GlmForCausalLM, tokenizer: Tokenizer, options: argparse.Namespace) -> None:
    """AdamW with warm-up and a cosine to zero; a new set of dialogues in every step."""
    world = World(options.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, options.steps))
    started, losses = time.time(), []
    for step in range(1, options.steps + 1):
        examples = [training_example(tokenizer, record_messages(world.dialogue())) for _ in range(options.batch)]
        loss = _loss(model, examples)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 50 == 0:
            row = {"step": step, "loss": sum(losses[-50:]) / 50, "seconds": round(time.time() - started)}
            print(json.dumps(row), flush=True)
        if step % 250 == 0:
            save(model, options.out)


def save(model: GlmForCausalLM, folder: Path) -> None:
    """Write the published layout: `config.json` and `model.safetensors` in half precision (4 MB)."""
    tensors = {name: tensor.half().contiguous() for name, tensor in published_tensors(model.state_dict()).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", published_config(model.config) | {"glmstudio_demo": True})


def _loss(model: GlmForCausalLM, examples: list[Example]) -> torch.Tensor:
    """The mean loss of the learned tokens; sorted halves keep the padding small."""
    learned = sum(example.trained for example in examples)
    examples.sort(key=lambda example: len(example.input_ids))
    total = torch.zeros(())
    for half in (examples[: len(examples) // 2], examples[len(examples) // 2 :]):
        length = max(len(example.input_ids) for example in half)
        ids = torch.tensor([e.input_ids + [PAD] * (length - len(e.input_ids)) for e in half])  # (B, T)
        labels = torch.tensor([e.labels + [IGNORED] * (length - len(e.labels)) for e in half])[:, 1:]
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]  # (B, T - 1, H)
        rows = labels != IGNORED
        total = total + functional.cross_entropy(model.lm_head(hidden[rows]), labels[rows], reduction="sum")
    return total / learned


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))


if __name__ == "__main__":
    main()
