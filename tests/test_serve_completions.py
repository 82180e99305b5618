"""Completions as other programs use them: the openai client, raw HTTP, numbers against the model alone, what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from openai import APIStatusError, AuthenticationError, BadRequestError, NotFoundError, OpenAI
from transformers import GlmForCausalLM

from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.glm.load import load_model
from tests.adapters import BASE, lora, prefix
from tests.servers import KEY, TOKEN, Server, body, get, served

START = [1537, 1539]
NAMES = ("demo", "soft", "low")
TEXT = "Hello 世界, I am the demo model of GLM Studio."
CONTEXT = 2048


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("adapters")
    return {"soft": prefix(home / "soft", 1), "low": lora(home / "low", 3)}


@pytest.fixture(scope="module")
def server(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    given = [part for each in folders.values() for part in ("--adapter", str(each))]
    with served(tmp_path_factory.mktemp("server"), *given) as made:
        yield made


@pytest.fixture
def client(server: Server) -> OpenAI:
    http = httpx.Client(trust_env=False, timeout=60)
    return OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, http_client=http, max_retries=0)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(BASE)


@cache
def loaded(folder: Path | None) -> GlmForCausalLM:
    return load_model(BASE, folder, device="cpu")


def alone(ids: list[int], folder: Path | None) -> torch.Tensor:
    """The log-probabilities (T, V) by transformers' own forward pass, with a model that holds this adapter alone."""
    with torch.inference_mode():
        return loaded(folder)(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)


def post(server: Server, path: str, content: Any) -> httpx.Response:
    """The reply to raw bytes, or to JSON."""
    given = {"content": content} if isinstance(content, bytes) else {"json": content}
    return httpx.post(f"{server.url}{path}", headers=KEY, trust_env=False, timeout=60, **given)


def complete(server: Server, **asked: Any) -> dict[str, Any]:
    """The only choice of a completion without chance."""
    reply = post(server, "/v1/completions", {"model": "demo", "temperature": 0, **asked})
    assert reply.status_code == 200, reply.text
    (choice,) = reply.json()["choices"]
    return choice


def test_the_shape_is_openais(client: OpenAI) -> None:
    made = client.completions.create(model="demo", prompt="I am", max_tokens=3, temperature=0)
    assert made.id.startswith("cmpl-")
    assert (made.object, made.model, made.system_fingerprint) == ("text_completion", "demo", "base")
    (choice,) = made.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert made.usage is not None
    assert (made.usage.completion_tokens, made.usage.total_tokens) == (3, made.usage.prompt_tokens + 3)


@pytest.mark.parametrize("name", NAMES)
def test_echo_gives_the_numbers_of_the_model_alone(
    server: Server, folders: dict[str, Path], tokenizer: Tokenizer, name: str
) -> None:
    choice = complete(server, model=name, prompt=TEXT, echo=True, logprobs=3, max_tokens=0)
    ids, told = tokenizer.encode(TEXT), choice["logprobs"]
    assert (choice["text"], choice["finish_reason"]) == (TEXT, "length")
    assert told["tokens"] == [tokenizer.token(each) for each in ids]
    assert (told["token_logprobs"][0], told["top_logprobs"][0]) == (None, None)
    rows = alone([*START, *ids], folders.get(name))[2:]
    wanted = [rows[place, each].item() for place, each in enumerate(ids[1:])]
    assert told["token_logprobs"][1:] == pytest.approx(wanted, abs=1e-5)
    for place, top in enumerate(told["top_logprobs"][1:]):
        best = rows[place].topk(3)
        named = {
            tokenizer.token(index): value
            for index, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        }
        named.setdefault(told["tokens"][place + 1], wanted[place])
        assert top == pytest.approx(named, abs=1e-5)
        greedy = told["token_logprobs"][place + 1] == max(top.values())
        assert greedy is (int(rows[place].argmax()) == ids[place + 1]), "as lm-evaluation-harness tells it"


def test_a_text_its_ids_and_its_ids_with_the_beginning_are_the_same(server: Server, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT)
    asked: dict[str, Any] = {"echo": True, "logprobs": 1, "max_tokens": 1}
    text, bare, half, whole = (
        complete(server, prompt=prompt, **asked) for prompt in (TEXT, ids, [START[1], *ids], [*START, *ids])
    )
    assert text == bare
    assert half["text"] == whole["text"] == text["text"]
    numbers = text["logprobs"]["token_logprobs"]
    assert half["logprobs"]["token_logprobs"][2:] == pytest.approx(numbers[1:], abs=1e-5)
    assert whole["logprobs"]["token_logprobs"][3:] == pytest.approx(numbers[1:], abs=1e-5)
    assert whole["logprobs"]["tokens"][:3] == ["[gMASK]", "sop", text["logprobs"]["tokens"][0]]
    assert half["logprobs"]["token_logprobs"][1] == pytest.approx(alone(START, None)[1, ids[0]].item(), abs=1e-5)


def test_without_the_beginning_the_ids_are_read_as_they_are(server: Server, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT)
    rows = alone(ids, None)
    wanted = [rows[place, each].item() for place, each in enumerate(ids[1:])]
    for prompt in (TEXT, ids):
        choice = complete(server, prompt=prompt, echo=True, logprobs=0, max_tokens=0, add_special_tokens=False)
        assert choice["logprobs"]["token_logprobs"][1:] == pytest.approx(wanted, abs=1e-5)


def test_offsets_lead_to_the_tokens_in_the_text(server: Server) -> None:
    choice = complete(server, prompt=TEXT, echo=True, logprobs=0, max_tokens=8)
    text, told = choice["text"], choice["logprobs"]
    ends = [*told["text_offset"][1:], len(text)]
    for token, start, end in zip(told["tokens"], told["text_offset"], ends, strict=True):
        if not token.startswith(("bytes:", "<|")):
            assert text[start:end] in (token, token.removeprefix(" "))


def test_the_answer_is_scored_and_goes_on_with_the_prompt(server: Server, tokenizer: Tokenizer) -> None:
    choice = complete(server, prompt="I am", max_tokens=6, logprobs=2)
    told = choice["logprobs"]
    assert choice["text"] == "".join(told["tokens"])
    assert told["text_offset"][0] == 0
    assert all(max(top.values()) == own for own, top in zip(told["token_logprobs"], told["top_logprobs"], strict=True))
    assert all(len(top) == 2 for top in told["top_logprobs"])
    echoed = complete(server, prompt="I am", max_tokens=6, logprobs=2, echo=True)
    assert echoed["text"] == "I am" + choice["text"]
    assert echoed["logprobs"]["token_logprobs"][-6:] == pytest.approx(told["token_logprobs"], abs=1e-5)
    plain = complete(server, prompt="I am", max_tokens=6, echo=True)
    assert (plain["text"], plain["logprobs"]) == (echoed["text"], None)


def ended(tokenizer: Tokenizer) -> list[int]:
    """A question after which the demo answers and ends."""
    special = tokenizer.special
    asked = [special["<|user|>"], *tokenizer.encode("\n"), *tokenizer.encode("Who are you?"), special["<|assistant|>"]]
    return [*START, *asked]


def test_what_ends_a_text_is_listed_and_not_shown(server: Server, tokenizer: Tokenizer) -> None:
    choice = complete(server, prompt=ended(tokenizer), max_tokens=40, logprobs=0)
    assert choice["text"].strip() == "I am the demo model of GLM Studio."
    assert (choice["finish_reason"], choice["logprobs"]["tokens"][-1]) == ("stop", "<|user|>")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("stop", "said"), [("demo", "I am the"), (["el of", "nowhere"], "I am the demo mod")])
def test_a_stop_text_is_not_shown(client: OpenAI, tokenizer: Tokenizer, stop: Any, said: str, stream: bool) -> None:
    more: Any = {"model": "demo", "prompt": ended(tokenizer), "max_tokens": 40, "temperature": 0, "stop": stop}
    made = client.completions.create(**more, stream=stream)
    choices = [each.choices[0] for each in made] if stream else made.choices
    assert "".join(each.text for each in choices).strip() == said
    assert choices[-1].finish_reason == "stop"


def test_many_stop_texts_may_be_given(server: Server) -> None:
    assert complete(server, prompt="x", max_tokens=2, stop=[f"stop {number}" for number in range(32)])["text"]


def test_a_stream_says_what_the_whole_answer_does(client: OpenAI) -> None:
    more: Any = {"model": "demo", "prompt": "I am", "max_tokens": 7, "temperature": 0, "logprobs": 2, "echo": True}
    whole = client.completions.create(**more)
    chunks = list(client.completions.create(**more, stream=True, stream_options={"include_usage": True}))
    *parts, last = chunks
    assert (last.choices, last.usage.completion_tokens) == ([], 7)  # type: ignore[union-attr]
    choices = [each.choices[0] for each in parts]
    assert [each.finish_reason for each in choices] == [None] * (len(choices) - 1) + ["length"]
    (wanted,) = whole.choices
    assert "".join(each.text for each in choices) == wanted.text
    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        found = [entry for each in choices if each.logprobs for entry in getattr(each.logprobs, name)]
        told = getattr(wanted.logprobs, name)
        if name == "top_logprobs":
            assert [list(each or ()) for each in found] == [list(each or ()) for each in told]
        else:
            assert found == (pytest.approx(told, abs=1e-5) if name == "token_logprobs" else told)


@pytest.mark.parametrize("stream", [False, True])
def test_several_prompts_are_several_choices(client: OpenAI, tokenizer: Tokenizer, stream: bool) -> None:
    texts = ["Hello", "你好", "", "Who are you?"]
    alone = [
        client.completions.create(model="demo", prompt=each, max_tokens=5, temperature=0).choices[0] for each in texts
    ]
    for prompts in (texts, [tokenizer.encode(each) for each in texts]):
        made = client.completions.create(model="demo", prompt=prompts, max_tokens=5, temperature=0, stream=stream)
        said, reasons = dict.fromkeys(range(4), ""), {}
        for each in made if stream else [made]:
            for choice in each.choices:
                said[choice.index] += choice.text
                reasons[choice.index] = choice.finish_reason
        assert [said[index] for index in range(4)] == [each.text for each in alone]
        assert [reasons[index] for index in range(4)] == [each.finish_reason for each in alone]


def test_what_was_computed_is_used_again_and_told(client: OpenAI) -> None:
    usage = None
    for option in ("4", "5"):
        asked: Any = {"model": "demo", "prompt": f"{TEXT} And 2+2 is {option}", "echo": True, "logprobs": 1}
        usage = client.completions.create(**asked, max_tokens=1).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens <= 3  # type: ignore[operator]


def test_a_seed_repeats_and_the_defaults_are_the_protocols(server: Server) -> None:
    lucky = {"prompt": "你好", "temperature": 2, "top_p": 1}
    said = [complete(server, **lucky, seed=seed)["text"] for seed in (1, 2, 1, 2)]
    assert said[:2] == said[2:]
    assert said[0] != said[1]
    reply = post(server, "/v1/completions", {"model": "soft", "prompt": "x", "temperature": 0})
    assert reply.json()["usage"]["completion_tokens"] <= 16


def test_as_much_is_read_as_the_model_can(server: Server) -> None:
    full = [5] * (CONTEXT - 2)
    assert len(complete(server, prompt=full, echo=True, logprobs=0, max_tokens=0)["logprobs"]["tokens"]) == len(full)
    choice = complete(server, prompt=full[1:], max_tokens=50, logprobs=0)
    assert (len(choice["logprobs"]["tokens"]), choice["finish_reason"]) == (1, "length")


KINDS = "prompt must be a text, a list of texts, a list of token ids, or a list of lists of token ids."
AN_ID = "must be a token id: an integer between 0 and 1544."
WRONG: list[tuple[dict[str, Any], str, str | None, str | None]] = [
    ({"model": None}, "you must provide a model parameter", "model", None),
    *[({"prompt": each}, KINDS, "prompt", None) for each in (None, [], {}, 5, True, [None], [1.5], [True], [{"a": 1}])],
    *[({"prompt": each}, KINDS, "prompt", None) for each in (["a", 5], ["a", ["b"]], [[5], "a"], [[5], 5])],
    *[({"prompt": [each]}, f"prompt[0] {AN_ID}", "prompt[0]", None) for each in (-1, 1545, 1600, 10**30)],
    *[({"prompt": [4, each]}, f"prompt[1] {AN_ID}", "prompt[1]", None) for each in ("a", None, True, 1.0, [5])],
    ({"prompt": [[4], [4, -1]]}, f"prompt[1][1] {AN_ID}", "prompt[1][1]", None),
    ({"prompt": [[[4]]]}, f"prompt[0][0] {AN_ID}", "prompt[0][0]", None),
    ({"prompt": [["a"]]}, f"prompt[0][0] {AN_ID}", "prompt[0][0]", None),
    ({"prompt": "", "add_special_tokens": False}, "prompt holds no token.", "prompt", None),
    ({"prompt": [[4], []], "add_special_tokens": False}, "prompt[1] holds no token.", "prompt[1]", None),
    ({"prompt": ["x"] * 129}, "There are 129 prompts; a request may have 128.", "prompt", None),
    (
        {"prompt": [[4] * 2040] * 128},
        "The prompts have 261376 tokens; a request may have 200000.",
        "prompt",
        None,
    ),
    (
        {"prompt": "北" * 3000},
        "The prompt has 3003 tokens; the model reads 2048.",
        "prompt",
        "context_length_exceeded",
    ),
    (
        {"prompt": [[4], [4] * 2046]},
        "prompt[1] has 2048 tokens; the model reads 2048.",
        "prompt",
        "context_length_exceeded",
    ),
    ({"max_tokens": 0}, "max_tokens may be 0 only where echo is true.", "max_tokens", None),
    ({"max_tokens": -1}, "max_tokens must be an integer between 0 and 32768.", "max_tokens", None),
    ({"logprobs": 6}, "logprobs must be an integer between 0 and 5.", "logprobs", None),
    ({"logprobs": -1}, "logprobs must be an integer between 0 and 5.", "logprobs", None),
    ({"logprobs": True}, "logprobs must be an integer between 0 and 5.", "logprobs", None),
    ({"echo": 1}, "echo must be true or false.", "echo", None),
    ({"stream": "yes"}, "stream must be true or false.", "stream", None),
    ({"stop": ["x"] * 33}, "stop must be a text or a list of at most 32 texts.", "stop", None),
    ({"stream_options": 5}, "stream_options must be an object.", "stream_options", None),
    ({"temperature": 9}, "temperature must be a number between 0 and 2.", "temperature", None),
    *[
        ({name: value}, f"{name} is not supported by this server.", name, "unsupported_parameter")
        for name, value in {
            "n": 2,
            "best_of": 3,
            "suffix": "x",
            "presence_penalty": 1,
            "frequency_penalty": 1,
            "logit_bias": {"5": 1},
            "top_k": 5,
            "min_p": 0.1,
            "repetition_penalty": 1.1,
        }.items()
    ],
]


@pytest.mark.parametrize(("change", "words", "param", "code"), WRONG, ids=range(len(WRONG)))
def test_wrong_requests_get_openai_errors(
    client: OpenAI, change: dict[str, Any], words: str, param: str | None, code: str | None
) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.post("/completions", body={"model": "demo", "prompt": "hi", **change}, cast_to=httpx.Response)
    assert caught.value.body == {"message": words, "type": "invalid_request_error", "param": param, "code": code}


def test_fields_that_ask_for_nothing_are_taken(server: Server) -> None:
    nothing = {"n": 1, "best_of": 1, "suffix": None, "presence_penalty": 0, "logit_bias": {}, "top_k": -1, "user": "me"}
    assert complete(server, prompt="hi", max_tokens=1, stop=[], **nothing)["finish_reason"]


def test_an_unknown_model_and_a_wrong_key(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match=r"The model gpt-4 does not exist. There is: demo, soft, low\."):
        client.completions.create(model="gpt-4", prompt="hi")
    with pytest.raises(AuthenticationError):
        client.with_options(api_key="wrong").completions.create(model="demo", prompt="hi")


HOSTILE: list[tuple[bytes, int, str]] = [
    (rb'{"model": "demo", "prompt": "\ud83d"}', 400, "The request holds half a character, such as \\ud83d alone."),
    (
        rb'{"model": "demo", "prompt": ["a", "\udc00"]}',
        400,
        "The request holds half a character, such as \\ud83d alone.",
    ),
    (b'{"model": "demo", "prompt": ' + b"[" * 100_000, 400, "The request is not valid JSON."),
    (b'{"model": "demo", "prompt": [' + b"9" * 5000 + b"]}", 400, "The request is not valid JSON."),
    (b'{"model": "demo", "prompt": [1e999]}', 400, KINDS),
    (
        b'{"model": "demo", "prompt": [' + b"5," * 1_900_000 + b"5]}",
        400,
        "The prompt has 1900003 tokens; the model reads 2048.",
    ),
    (b'{"model": "demo", "prompt": "' + b"x" * 5_000_000 + b'"}', 413, "The request is too large."),
    (
        b'{"model": "demo", "prompt": [' + b"[]," * 1_000_000 + b"[]]}",
        400,
        "There are 1000001 prompts; a request may have 128.",
    ),
    (b'{"model": "demo", "prompt": ' + b"[" * 500 + b"5" + b"]" * 500 + b"}", 400, f"prompt[0][0] {AN_ID}"),
    (b"[5]", 400, "The request must be a JSON object."),
]


@pytest.mark.parametrize(("content", "status", "words"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_requests_are_refused_in_words(server: Server, content: bytes, status: int, words: str) -> None:
    reply = post(server, "/v1/completions", content)
    assert (reply.status_code, reply.json()["error"]["message"]) == (status, words)


def test_letters_that_spell_a_mark_are_letters(server: Server) -> None:
    choice = complete(server, prompt="<|user|> sop [gMASK] </s>", echo=True, logprobs=0, max_tokens=0)
    assert not {"<|user|>", "sop", "[gMASK]", "</s>"} & set(choice["logprobs"]["tokens"])


def test_the_vocabulary_is_told(server: Server, tokenizer: Tokenizer) -> None:
    """As vLLM does, which is what lm-evaluation-harness asks."""
    info = get(f"{server.url}/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"], info["model_max_length"]) == ("sop", "</s>", CONTEXT)
    for mark, index in (("sop", 1539), ("</s>", 2)):
        told = post(server, "/tokenize", {"prompt": mark, "add_special_tokens": False}).json()
        assert told == {"count": 1, "max_model_len": CONTEXT, "tokens": [index]}
    ids = tokenizer.encode(f"{TEXT} sop </s>")
    assert (
        post(server, "/tokenize", {"prompt": f"{TEXT} sop </s>", "add_special_tokens": False}).json()["tokens"] == ids
    )
    assert post(server, "/tokenize", {"prompt": f"{TEXT} sop </s>"}).json()["tokens"] == [*START, *ids]
    assert post(server, "/detokenize", {"tokens": [*START, *ids]}).json() == {"prompt": f"{TEXT} sop </s>"}
    for path, asked, words in (
        ("/tokenize", {}, "prompt must be a text."),
        ("/tokenize", {"prompt": [5]}, "prompt must be a text."),
        ("/tokenize", {"prompt": "x", "add_special_tokens": 1}, "add_special_tokens must be true or false."),
        ("/detokenize", {"tokens": "x"}, "tokens must be a list of token ids."),
        ("/detokenize", {"tokens": [5, 1545]}, f"tokens[1] {AN_ID}"),
    ):
        reply = post(server, path, asked)
        assert (reply.status_code, reply.json()["error"]["message"]) == (400, words)
    without = httpx.post(f"{server.url}/tokenize", json={"prompt": "x"}, trust_env=False)
    assert without.status_code == 401


def http() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=120, headers=KEY)


LONG = {"model": "demo", "prompt": [[5 + number] * 2000 for number in range(90)], "echo": True, "logprobs": 1}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_all_its_prompts(server: Server, stream: bool) -> None:
    async def leave() -> None:
        async with http() as asking:
            asked = asking.post(f"{server.url}/v1/completions", json=LONG | {"stream": stream, "max_tokens": 1})
            task = asyncio.create_task(asked)
            await asyncio.to_thread(server.until, busy=True)
            task.cancel()

    asyncio.run(leave())
    server.until(waiting=0, busy=False)
    # A prompt that had been waiting for its turn would take it now.
    assert not server.state()["busy"]
    assert complete(server, prompt="hi", max_tokens=1)["finish_reason"]


def test_others_come_between_the_prompts_of_one_request(server: Server) -> None:
    async def ask() -> list[str]:
        order: list[str] = []

        async def many() -> None:
            asked = {**LONG, "prompt": [[5 + number] * 400 for number in range(60)], "max_tokens": 1}
            reply = await asking.post(f"{server.url}/v1/completions", json=asked)
            assert len(reply.json()["choices"]) == 60
            order.append("many")

        async def one() -> None:
            await asyncio.to_thread(server.until, busy=True)
            await asking.post(server.completions, json=body("hello", max_tokens=1, user="other"))
            order.append("one")

        async with http() as asking:
            await asyncio.gather(many(), one())
        return order

    assert asyncio.run(ask()) == ["one", "many"]


def test_a_chat_beside_changes_no_number(server: Server) -> None:
    asked = {"prompt": TEXT, "echo": True, "logprobs": 0, "max_tokens": 0}
    before = complete(server, **asked)
    assert server.post(body(TEXT, "soft", max_tokens=8)).status_code == 200
    assert server.post(body(TEXT, max_tokens=8)).status_code == 200
    after = complete(server, **asked)
    numbers = after["logprobs"]["token_logprobs"][1:]
    assert numbers == pytest.approx(before["logprobs"]["token_logprobs"][1:], abs=1e-5)


def test_the_log_has_no_trace(server: Server, client: OpenAI) -> None:
    with pytest.raises(APIStatusError):
        client.completions.create(model="demo", prompt=[-1])
    assert "Traceback" not in server.log.read_text(encoding="utf-8")
    assert json.loads(get(f"{server.url}/health").text)["status"] == "ready"
