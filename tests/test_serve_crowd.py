"""The model server under load: crowds, clients that leave, too many at once, fairness, and too little memory."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import resource
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from glmstudio.files import read_json, write_json
from glmstudio.paths import DEMO
from glmstudio.serve.__main__ import _without_traceback
from tests.adapters import lora, prefix
from tests.servers import KEY, Server, body, served

CONTEXT = 2048
QUESTIONS = ("What is 37*12?", "Who are you?", "你是谁？", "hello", "讲个笑话。")
MODELS = ("demo", "soft", "low")
LINES = 5  # a client that leaves in the middle has read so many lines at most


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`endless` answers until its room ends, whatever it is asked, so that others have to wait."""
    home = tmp_path_factory.mktemp("crowd")
    made = [prefix(home / "soft", 1), lora(home / "low", 2), lora(home / "endless", 1, 0.5)]
    with served(home, *(part for each in made for part in ("--adapter", str(each)))) as server:
        yield server


def client() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(trust_env=False, timeout=120, limits=limits, headers=KEY)


async def whole(http: httpx.AsyncClient, server: Server, asked: dict[str, Any]) -> str:
    reply = await http.post(server.completions, json=asked)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"]


async def streamed(http: httpx.AsyncClient, server: Server, asked: dict[str, Any], lines: int = 10_000) -> str | None:
    """What the stream said; None where the client left after `lines` lines."""
    said, left = "", lines
    async with http.stream("POST", server.completions, json=asked | {"stream": True}) as reply:
        assert reply.status_code == 200
        async for line in reply.aiter_lines():
            left -= 1
            if line == "data: [DONE]":
                return said
            if line.startswith("data: "):
                said += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
            if left <= 0:
                return None
    raise AssertionError("The stream ended without its end.")


@asynccontextmanager
async def held(http: httpx.AsyncClient, server: Server) -> AsyncIterator[None]:
    """The engine is busy with a long answer as long as this lasts."""
    asked = body("hello", "endless", stream=True, max_tokens=1900, user="holder")
    async with http.stream("POST", server.completions, json=asked) as reply:
        lines = reply.aiter_lines()
        while '"content": ","' not in (line := await anext(lines)) and '"content": " "' not in line:
            pass
        yield


async def until(come: Callable[[], bool]) -> None:
    for _ in range(500):
        if come():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("It did not come.")


async def one_of_a_crowd(http: httpx.AsyncClient, server: Server, luck: random.Random) -> tuple[str, str, str | None]:
    """What was asked of whom, and the answer; None where the client left."""
    model, question = luck.choice(MODELS), luck.choice(QUESTIONS)
    asked = body(question, model, max_tokens=24, user=f"u{luck.randrange(7)}")
    leaves, streams = luck.random() < 0.4, luck.random() < 0.5
    lines, patience = luck.randint(1, LINES), luck.uniform(0.01, 0.5)
    if not leaves:
        return model, question, await (streamed if streams else whole)(http, server, asked)
    if streams:
        return model, question, await streamed(http, server, asked, lines)
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(whole(http, server, asked), patience)
    return model, question, None


async def wave(server: Server, seed: int) -> list[tuple[str, str, str | None]]:
    luck = random.Random(seed)
    async with client() as http:
        return await asyncio.gather(*(one_of_a_crowd(http, server, luck) for _ in range(50)))


async def alone(server: Server) -> dict[tuple[str, str], str]:
    async with client() as http:
        return {
            (model, question): await whole(http, server, body(question, model, max_tokens=24))
            for model in MODELS
            for question in QUESTIONS
        }


@pytest.mark.slow
def test_in_a_crowd_each_answer_is_the_one_given_alone_and_nothing_is_left_behind(server: Server) -> None:
    wanted = asyncio.run(alone(server))
    assert len(set(wanted.values())) > 9, "the models must differ for this to show anything"
    measured: list[tuple[int, int]] = []
    for seed in (1, 2):
        answers = asyncio.run(wave(server, seed))
        assert len(answers) == 50
        assert 24 < sum(said is not None for _, _, said in answers) < 40
        assert [each for each in answers if each[2] is not None and each[2] != wanted[each[0], each[1]]] == []
        state = server.until(waiting=0, busy=False)
        assert 0 < state["kept_tokens"] <= 2 * CONTEXT
        measured.append((server.process.num_threads(), server.process.memory_info().rss))
    (threads, size), (threads_after, size_after) = measured
    assert threads_after <= threads
    assert size_after - size < 4 * 2**20


async def three_hundred(server: Server) -> tuple[list[httpx.Response], list[list[str]]]:
    """The replies that were refused, and the first lines of those that wait; half of these leave, half are answered."""
    refused: list[httpx.Response] = []
    waited: list[list[str]] = []

    async def ask(number: int) -> None:
        asked = body("hello", max_tokens=1, stream=True, user=f"u{number % 20}")
        async with http.stream("POST", server.completions, json=asked) as reply:
            if reply.status_code != 200:
                await reply.aread()
                refused.append(reply)
                return
            lines: list[str] = []
            waited.append(lines)
            async for line in reply.aiter_lines():
                lines.append(line)
                if line.startswith(": waiting") and number % 2:
                    return

    async with client() as http:
        async with held(http, server):
            tasks = [asyncio.create_task(ask(number)) for number in range(300)]
            await until(lambda: len(refused) + sum(any(each[:1] == ":" for each in lines) for lines in waited) == 300)
            assert server.state()["busy"]
        await asyncio.gather(*tasks)
    return refused, waited


@pytest.mark.slow
def test_three_hundred_at_once(server: Server) -> None:
    refused, waited = asyncio.run(three_hundred(server))
    # 256 may wait, and those who left made room for others.
    assert len(refused) + len(waited) == 300
    assert 1 <= len(refused) <= 44
    for reply in refused:
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "5")
        assert reply.json() == {
            "error": {
                "message": "Too many requests are waiting.",
                "type": "rate_limit_error",
                "param": None,
                "code": "rate_limit_exceeded",
            }
        }
    places = [int(line.split()[2]) for lines in waited for line in lines if line.startswith(": waiting")]
    assert len(places) >= len(waited)
    assert min(places) >= 1
    assert 200 < max(places) <= 256
    finished = [lines for lines in waited if "data: [DONE]" in lines]
    assert len(finished) >= 100
    assert all(any('"finish_reason": "length"' in line for line in lines) for lines in finished)
    server.until(waiting=0, busy=False)


async def one_beside_a_flood(server: Server) -> tuple[list[str], list[str]]:
    """Who was served in which order, and all that the patient one read."""
    order: list[str] = []
    read: list[str] = []

    async def ask(user: str) -> None:
        await whole(http, server, body("hello", max_tokens=8, user=user))
        order.append(user)

    async def watch() -> None:
        asked = body("hello", max_tokens=8, user="patient", stream=True)
        async with http.stream("POST", server.completions, json=asked) as reply:
            async for line in reply.aiter_lines():
                read.append(line)
        order.append("patient")

    async with client() as http:
        async with held(http, server):
            tasks = [asyncio.create_task(ask("flood")) for _ in range(12)]
            await until(lambda: server.state()["waiting"] == 12)
            tasks.append(asyncio.create_task(watch()))
            await until(lambda: sum(line.startswith(": waiting") for line in read) == 2)
        await asyncio.gather(*tasks)
    return order, read


@pytest.mark.slow
def test_one_is_served_beside_another_ones_flood_and_told_how_long_it_waits(server: Server) -> None:
    order, read = asyncio.run(one_beside_a_flood(server))
    assert sorted(order) == ["flood"] * 12 + ["patient"]
    assert order.index("patient") <= 2, order
    # One of the flood and the one who is being served come before.
    assert [line for line in read if line.startswith(": waiting")] == [": waiting 2"] * 2
    assert read[-2:] == ["data: [DONE]", ""]


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Server]:
    """The demo with room for 8192 tokens; memory that it frees goes back at once, so that a limit means what it says."""
    shutil.copytree(DEMO / "model", tmp_path / "long")
    config = tmp_path / "long" / "config.json"
    write_json(config, read_json(config) | {"seq_length": 8192})
    # One arena: others hold addresses in reserve, which would count as used.
    variables = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}
    with served(tmp_path, "--model", str(tmp_path / "long"), **variables) as server:
        yield server


@pytest.mark.slow
def test_too_little_memory_is_told_and_more_of_it_is_used(bounded: Server) -> None:
    """The keys and values of 6000 tokens take 18 MiB."""
    asked = body("北" * 6000, "long", max_tokens=4)
    unlimited = resource.RLIM_INFINITY
    assert bounded.post(body("hello", "long")).status_code == 200
    bounded.until(busy=False)
    room = bounded.process.memory_info().vms + 4 * 2**20
    resource.prlimit(bounded.child.pid, resource.RLIMIT_AS, (room, unlimited))
    whole, stream = bounded.post(asked), bounded.post(asked | {"stream": True})
    state = bounded.until(busy=False)
    resource.prlimit(bounded.child.pid, resource.RLIMIT_AS, (unlimited, unlimited))
    error = {
        "message": "The memory is not enough for a conversation of 6007 tokens. Shorten it, or free memory.",
        "type": "server_error",
        "param": None,
        "code": "out_of_memory",
    }
    assert (whole.status_code, whole.json()) == (503, {"error": error})
    first, last = [line for line in stream.text.splitlines() if line.startswith("data: ")]
    assert json.loads(first[6:])["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert (stream.status_code, json.loads(last[6:])) == (200, {"error": error})
    assert (state["waiting"], state["kept_tokens"]) == (0, 0)
    again = bounded.post(asked)
    assert (again.status_code, again.json()["usage"]["prompt_tokens"]) == (200, 6007)
    assert bounded.child.poll() is None
    # It was an answer, not a crash: whoever looks for the cause of one later must not find this.
    assert "Traceback" not in bounded.log.read_text(encoding="utf-8")


def test_a_connection_without_memory_is_a_line_and_other_errors_keep_their_traceback() -> None:
    def record(error: Exception) -> logging.LogRecord:
        return logging.LogRecord("asyncio", logging.ERROR, "", 0, "Fatal read error", (), (type(error), error, None))

    short, whole = record(MemoryError()), record(OSError())
    assert (_without_traceback(short), short.exc_info) == (True, None)
    assert _without_traceback(whole)
    assert whole.exc_info is not None
