"""The whole way for real: start, torchrun, a kill in the middle, the studio again, the result, a right tool call."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from glmstudio.chat.model_server import ModelServer, wait_until_ready
from glmstudio.rundir.run import Run, find_run, wait_for_end
from glmstudio.tools.toolbox import trained
from tests.e2e.browser import browser, visit
from tests.e2e.studio import ROOT, get, studio
from tests.marks import rare

pytestmark = pytest.mark.slow
PATIENCE = 900.0


def wait_for_step(run: Run, step: int) -> None:
    end = time.monotonic() + PATIENCE
    while run.read_state().step < step:
        assert run.read_state().live, run.log()[0][-3000:]
        assert time.monotonic() < end, run.log()[0][-3000:]
        time.sleep(0.2)


SHIPPED = 1450  # steps of the preset


@pytest.mark.parametrize("steps", [150, rare(SHIPPED)])  # the base knows the time of a city, so 150 are enough
def test_from_a_command_to_a_right_tool_call(home: Path, steps: int) -> None:
    changed = [] if steps == SHIPPED else ["--set", f"steps={steps}"]
    with studio(home) as first:
        started = subprocess.run(
            [sys.executable, "-m", "glmstudio", "train", "demo/ptuning_v2", *changed, "--name", "first", "--json"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(started.stdout)["name"] == "first"
        run = find_run("first")
        wait_for_step(run, 20)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        assert run.read_state().state == "running"
    with studio(home) as second:
        assert get(second.port, "/", second.cookie)[0] == 200
        state = wait_for_end(run, seconds=PATIENCE)
        assert (state.state, state.step) == ("finished", steps), run.log()[0][-3000:]
    ModelServer.start("demo", ["first"])
    try:
        server = wait_until_ready(120)
        assert server.adapters == ("first",)
        client = OpenAI(
            base_url=f"http://127.0.0.1:{server.port}/v1",
            api_key=ModelServer.key(),
            http_client=httpx.Client(trust_env=False),
        )
        assert called(client, "What time is it in Paris?") == [("get_time", {"city": "Paris"})]
        if steps == SHIPPED:
            assert called(client, "Set a timer for 25 minutes.") == [("set_timer", {"value": 25})]
    finally:
        ModelServer.stop()


@pytest.mark.rare
def test_the_same_by_clicking(home: Path) -> None:
    with browser() as chromium:
        with studio(home) as first, visit(chromium) as visitor:
            page = visitor.open(first.url + "#finetune")
            page.click("#panel-settings summary")
            page.locator("#panel-settings [data-field=steps]").fill("500")  # enough for one tool
            page.locator("#finetune-name").locator("input, textarea").fill("clicked")
            page.click("#finetune-start:not([disabled])", timeout=60_000)
            page.wait_for_selector("#panel-run .gs-curve", timeout=180_000)
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
        run = find_run("clicked")
        assert run.read_state().state == "running"
        with studio(home) as second, visit(chromium) as visitor:
            page = visitor.open(second.url)
            assert page.evaluate("document.documentElement.dataset.step") == "finetune", "it opens on what is running"
            page.wait_for_selector(".gs-rail [data-go=finetune] .gs-running", timeout=30_000)
            page.wait_for_selector("#panel-run [data-act=chat]", timeout=PATIENCE * 1000)
            assert (run.read_state().state, run.read_state().step) == ("finished", 500)
            page.click("#panel-run [data-act=chat]")
            page.wait_for_selector(".gs-examples", timeout=120_000)
            assert "clicked" in page.inner_text("#panel-server")
            page.locator("#chat-input textarea").fill("Set a timer for 25 minutes.")
            page.keyboard.press("Enter")
            page.wait_for_selector(".gs-foot", timeout=60_000)
            assert page.inner_text(".gs-call b") == "Timer"
            assert page.inner_text(".gs-call dd >> nth=0") == "25"
            assert visitor.complaints == []
            assert visitor.outside == set()
    ModelServer.stop()


def called(client: OpenAI, question: str) -> list[tuple[str, dict[str, Any]]]:
    tools: Any = [{"type": "function", "function": tool.schema} for tool in trained().values()]
    answer = client.chat.completions.create(
        model="first", messages=[{"role": "user", "content": question}], tools=tools, temperature=0
    )
    calls: Any = answer.choices[0].message.tool_calls or []
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls]
