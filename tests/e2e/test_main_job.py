"""The whole way for real: studio, torchrun, a kill in the middle, the studio again, the result served, a right call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

from glmstudio.chat.server import ModelServer, wait_until_ready
from glmstudio.chat.tools import TOOLS
from glmstudio.files import read_json
from glmstudio.runs.run import find_run, wait_for_end

ROOT = Path(__file__).parents[2]


@contextmanager
def studio(home: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A real studio of this home: its port and its process."""
    log = home.parent / "studio.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "glmstudio", "--no-browser", "--port", "0"],
            cwd=ROOT, env=os.environ | {"GLMSTUDIO_HOME": str(home)}, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while True:
            port = (read_json(home / "state/studio.json", {}) or {}).get("port")
            if port and _serves(port):
                break
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield port, child
    finally:
        if child.poll() is None:
            child.terminate()
        child.wait(20)


def test_from_nothing_to_a_right_tool_call(home: Path) -> None:
    with studio(home) as (port, child):
        started = subprocess.run(
            [sys.executable, "-m", "glmstudio", "train", "demo/ptuning_v2", "--name", "first", "--json", "--set", "steps=300", "--set", "save_every=100"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(started.stdout)["name"] == "first"
        run = find_run("first")
        while run.read_state().step < 20:
            assert run.read_state().live, run.log()[0][-3000:]
            time.sleep(0.2)
        child.send_signal(signal.SIGKILL)
        child.wait()
    before = run.read_state()
    assert before.state == "running"
    with studio(home) as (port, _):
        assert httpx.Client(trust_env=False).get(f"http://127.0.0.1:{port}/").status_code == 200
        while run.read_state().step < before.step + 5:
            assert run.read_state().live, run.log()[0][-3000:]
            time.sleep(0.2)
        state = wait_for_end(run, seconds=300)
        assert (state.state, state.step) == ("finished", 300), run.log()[0][-3000:]
    ModelServer.start("demo", "first")
    try:
        server = wait_until_ready(120)
        assert server.adapter == "first"
        client = OpenAI(
            base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", http_client=httpx.Client(trust_env=False)
        )
        assert called(client, "Set a timer for 25 minutes.") == ("set_timer", {"value": 25})
        assert called(client, "What time is it in Paris?") == ("get_time", {"city": "Paris"})
    finally:
        ModelServer.stop()


def called(client: OpenAI, question: str) -> tuple[str, dict[str, Any]]:
    tools: Any = [{"type": "function", "function": tool.schema} for tool in TOOLS.values()]
    answer = client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": question}], tools=tools, temperature=0
    )
    (call,) = answer.choices[0].message.tool_calls or []
    return call.function.name, json.loads(call.function.arguments)  # type: ignore[union-attr]


def _serves(port: int) -> bool:
    try:
        return httpx.Client(trust_env=False, timeout=2).get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.HTTPError:
        return False
