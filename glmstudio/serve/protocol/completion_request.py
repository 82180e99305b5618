"""A request in OpenAI's older completions protocol, checked: prompts as texts or as token ids, and what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from glmstudio.chat.openai_messages import ProtocolError
from glmstudio.chat.sampling import LIMITS, Sampling
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.serve.protocol.chat_request import (  # fmt: skip
    read_client,
    read_model,
    read_sampling,
    read_stops,
    refuse_no_switch,
    refuse_unsupported,
    wants_usage,
)
from glmstudio.serve.token_scores import MOST_ALTERNATIVES

# The values that ask for nothing; the last three are what programs send to other servers, and would change numbers.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "suffix": ("",),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "top_k": (-1, 0),
    "min_p": (0,),
    "repetition_penalty": (1,),
}
_LIMITS = LIMITS | {"max_tokens": (0, LIMITS["max_tokens"][1])}
_USUAL_TOKENS = 16  # as the protocol has it
_MOST_STOPS = 32  # a benchmark of code has a dozen
_MOST_PROMPTS = 128
_MOST_TOKENS = 200_000  # of all prompts of a request, as what is said of each of them takes some hundred bytes
_KINDS = "prompt must be a text, a list of texts, a list of token ids, or a list of lists of token ids."


@dataclass(frozen=True)
class Prompt:
    """`ids` are what the model reads. The first `hidden` of them, which begin every text, were not sent and are not
    shown; the others are those of `text`, which is None where ids were sent."""

    text: str | None
    ids: list[int] = field(repr=False)
    hidden: int = 0

    @property
    def shown(self) -> list[int]:
        """The ids that stand for what was sent."""
        return self.ids[self.hidden :]


@dataclass(frozen=True)
class CompletionRequest:
    """`logprobs` is how many alternatives of each token are told; None where nothing is told of them."""

    model: str
    prompts: Sequence[Prompt]
    sampling: Sampling
    stops: Sequence[str]
    echo: bool
    logprobs: int | None
    stream: bool
    usage: bool
    client: str


def read_completion(body: dict[str, Any], tokenizer: Tokenizer, context: int) -> CompletionRequest:
    """The checked request to a model that reads `context` tokens. Raises ProtocolError that names the field."""
    model = read_model(body)
    refuse_unsupported(body, _REFUSED)
    refuse_no_switch(body, "stream", "echo", "add_special_tokens")
    usual = {"max_tokens": _USUAL_TOKENS} if body.get("max_tokens") is None else {}
    sampling, echo = read_sampling(body | usual, _LIMITS), bool(body.get("echo"))
    if sampling.max_tokens == 0 and not echo:
        raise ProtocolError("max_tokens may be 0 only where echo is true.", "max_tokens")
    bare = body.get("add_special_tokens") is False
    prompts = _prompts(body.get("prompt"), tokenizer, marked=not bare)
    _refuse_long(prompts, context if sampling.max_tokens == 0 else context - 1, context)
    return CompletionRequest(
        model=model,
        prompts=prompts,
        sampling=sampling,
        stops=read_stops(body.get("stop"), _MOST_STOPS),
        echo=echo,
        logprobs=_logprobs(body.get("logprobs")),
        stream=bool(body.get("stream")),
        usage=wants_usage(body),
        client=read_client(body),
    )


def text_ids(text: Any, tokenizer: Tokenizer, param: str) -> list[int]:
    """The ids of a text alone. Raises ProtocolError where it is none, or not one of whole characters."""
    if not isinstance(text, str):
        raise ProtocolError(f"{param} must be a text.", param)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ProtocolError("The request holds half a character, such as \\ud83d alone.", param) from error
    return tokenizer.encode(text)


def checked_ids(value: Any, tokenizer: Tokenizer, param: str) -> list[int]:
    """Token ids that the vocabulary has. Raises ProtocolError that names the first one which it has not."""
    if not isinstance(value, list):
        raise ProtocolError(f"{param} must be a list of token ids.", param)
    for place, each in enumerate(value):
        if type(each) is not int or not 0 <= each < tokenizer.size:
            at = f"{param}[{place}]"
            raise ProtocolError(f"{at} must be a token id: an integer between 0 and {tokenizer.size - 1}.", at)
    return value


def _begun(ids: list[int], tokenizer: Tokenizer) -> tuple[list[int], int]:
    """The ids behind the two that begin every text, and how many of these two had to be added: none where the ids
    begin with both, one where they begin with the second."""
    start = tokenizer.start
    missing = next(count for count in range(len(start) + 1) if ids[: len(start) - count] == start[count:])
    return [*start[:missing], *ids], missing


def _prompts(value: Any, tokenizer: Tokenizer, *, marked: bool) -> list[Prompt]:
    if isinstance(value, str):
        return [_prompt(value, tokenizer, "prompt", marked=marked)]
    if not isinstance(value, list) or not value:
        raise ProtocolError(_KINDS, "prompt")
    if type(value[0]) is int:
        return [_prompt(value, tokenizer, "prompt", marked=marked)]
    if not isinstance(value[0], (str, list)):
        raise ProtocolError(_KINDS, "prompt")
    if len(value) > _MOST_PROMPTS:
        raise ProtocolError(f"There are {len(value)} prompts; a request may have {_MOST_PROMPTS}.", "prompt")
    if not all(isinstance(each, type(value[0])) for each in value):
        raise ProtocolError(_KINDS, "prompt")
    return [_prompt(each, tokenizer, f"prompt[{place}]", marked=marked) for place, each in enumerate(value)]


def _prompt(value: Any, tokenizer: Tokenizer, param: str, *, marked: bool) -> Prompt:
    text = value if isinstance(value, str) else None
    ids = checked_ids(value, tokenizer, param) if text is None else text_ids(text, tokenizer, param)
    read, hidden = _begun(ids, tokenizer) if marked else (ids, 0)
    if not read:
        raise ProtocolError(f"{param} holds no token.", param)
    return Prompt(text, read, hidden)


def _refuse_long(prompts: Sequence[Prompt], most: int, context: int) -> None:
    for place, prompt in enumerate(prompts):
        if len(prompt.ids) > most:
            named = "The prompt" if len(prompts) == 1 else f"prompt[{place}]"
            said = f"{named} has {len(prompt.ids)} tokens; the model reads {context}."
            raise ProtocolError(said, "prompt", code="context_length_exceeded")
    total = sum(len(prompt.ids) for prompt in prompts)
    if total > _MOST_TOKENS:
        raise ProtocolError(f"The prompts have {total} tokens; a request may have {_MOST_TOKENS}.", "prompt")


def _logprobs(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MOST_ALTERNATIVES:
        raise ProtocolError(f"logprobs must be an integer between 0 and {MOST_ALTERNATIVES}.", "logprobs")
    return value
