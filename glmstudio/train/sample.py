"""One question, answered at every save: what the model learned, to be read rather than measured."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import GlmForCausalLM

from glmstudio.data.protocol.prompt import chat_ids, opening_of
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.families.message import Message
from glmstudio.train.batches import Examples
from glmstudio.train.run_reporter import RunReporter

_LONGEST = 96  # tokens of an answer


def sampler(
    glm: GlmForCausalLM, tokenizer: Tokenizer, examples: Examples, question: str, reporter: RunReporter
) -> Callable[[int], None]:
    """A function that asks and tells the reporter; `question` empty takes that of the first conversation, and any is
    asked with the tools and the system text of that one."""
    if question:
        opening = opening_of(tokenizer, examples[0]["input_ids"].tolist())
        prompt = chat_ids(tokenizer, [Message("user", question)], opening, begun=False)
    else:
        prompt, question = _first_question(tokenizer, examples)

    def sample(step: int) -> None:
        glm.eval()
        with torch.no_grad():  # as in `Trainer.validate`
            ids = torch.tensor([prompt], device=glm.device)
            answer = glm.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=_LONGEST,
                do_sample=False,
                eos_token_id=list(tokenizer.stop_ids),
                pad_token_id=tokenizer.pad_id,
            )[0, len(prompt) :].tolist()
        glm.train()
        reporter.sampled(step, question, tokenizer.decode(answer).strip())

    return sample


def _first_question(tokenizer: Tokenizer, examples: Examples) -> tuple[list[int], str]:
    """The first conversation up to where the model has to speak, and what its user says there."""
    row = examples[0]
    ids = row["input_ids"].tolist()
    learned = int((row["labels"] >= 0).nonzero()[0])
    prompt = ids[:learned]
    user = tokenizer.user
    asked = prompt[len(prompt) - prompt[::-1].index(user) :] if user in prompt else prompt
    return prompt, tokenizer.decode(asked).strip()
