"""One question to a base model and to what a run made of it, with the tools and the system prompt that the data had.

An adapter lies beside the weights of the model server, which stays loaded: the same weights answer twice. A whole model
cannot, so a process of its own holds both (`whole_pair`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from glmstudio.access.api_key import bearer
from glmstudio.chat.model_server import ModelServer, ServerState, wait_until_ready
from glmstudio.chat.whole_pair import PAIR
from glmstudio.data.protocol.prompt import chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.families.message import Message
from glmstudio.files import read_table
from glmstudio.models import ready_model
from glmstudio.rundir.occupancy import chat_device, run_on
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run

_LONGEST = 256  # tokens of an answer
_LOADING = 1800.0  # seconds that a model may take to load


@dataclass(frozen=True)
class Compared:
    """The two answers, both without chance; `in_turn`: there was no room for both models, so each was loaded anew."""

    base: str
    tuned: str
    seconds: float = 0.0
    in_turn: bool = False


def ask_both(run: Run, question: str) -> Compared:
    """Ask the base, then what the run learned. Loads the base where another model is loaded, or none, and keeps it.

    Raises StudioError.
    """
    if other := run_on(chat_device()):
        raise StudioError("ui.run.versus_busy", name=other.name)
    began, model = time.monotonic(), ready_model(run.model)
    prompt = chat_ids(_tokenizer(model.path), [Message("user", question)], _opening(run), begun=False)
    if run.is_whole_model:
        if run.result is None:
            raise StudioError("runs.no_result", name=run.name)
        told = PAIR.ask(model.path, run.result, prompt)
        return Compared(str(told["base"]), str(told["tuned"]), time.monotonic() - began, bool(told["in_turn"]))
    if needs_loading(run):
        ModelServer.start(run.model, [run.name])
    port = wait_until_ready(_LOADING).port
    name = ModelServer.add(run.name)
    base, *_ = ModelServer.loaded()
    answers = [_completion(port, each, prompt) for each in (base.id, name)]
    return Compared(answers[0], answers[1], time.monotonic() - began)


def needs_loading(run: Run) -> bool:
    """Whether a question has to load the base of the run first."""
    state: ServerState = ModelServer.current()
    return state.state not in ("ready", "loading") or state.model != run.model


def _opening(run: Run) -> list[int]:
    """The ids that the first conversation of the data began with."""
    ids = read_table(run.path / RunFiles.OPENING).get("ids")
    return ids if isinstance(ids, list) and all(type(each) is int for each in ids) else []


@lru_cache(maxsize=2)
def _tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer(folder)


def _completion(port: int, model: str, prompt: list[int]) -> str:
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "temperature": 0,
        "max_tokens": _LONGEST,
        "user": "studio",
    }
    url = f"http://127.0.0.1:{port}/v1/completions"
    try:
        reply = httpx.post(url, json=body, headers=bearer(ModelServer.key()), trust_env=False, timeout=600)
        told = reply.json()
        if reply.status_code != 200:
            raise StudioError("ui.run.versus_broke", reason=str(told["error"]["message"])[:300])
        return str(told["choices"][0]["text"]).strip()
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise StudioError("chat.unreachable") from error
