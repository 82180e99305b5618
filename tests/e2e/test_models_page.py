"""The Model step in a real browser: a download that is paused, survives the studio, and is repaired."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import CHROMIUM, browser, visit
from tests.e2e.studio import studio
from tests.fakes.hub import Hub
from tests.fakes.published import make_model
from tests.marks import rare
from tests.models import weights

pytest.importorskip("playwright")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")

CARD = "[data-key=model-chatglm3-6b]"
SHARD = "pytorch_model-00002-of-00002.bin"
REPOS = ("ZhipuAI/chatglm3-6b", "zai-org/chatglm3-6b")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    for repo in REPOS:
        published = make_model(tmp_path / "hub", repo, shard_bytes=24 << 20)
        # A tokenizer that can be read: the doctor and the page look at the folder.
        (published / "tokenizer.model").write_bytes((Path("glmstudio/demo/model") / "tokenizer.model").read_bytes())
    with Hub(tmp_path / "hub", rate=4e6) as running:
        yield running


def chip(page: Any, look: str) -> str:
    page.wait_for_selector(f"{CARD} .gs-chip.gs-{look}", timeout=60_000)
    return page.inner_text(f"{CARD} .gs-chip >> nth=0")


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("en-US", {"paused": r"Paused at \d+ %", "ready": "Ready", "broken": "Damaged", "sum": "not the published checksum"}),
        rare("zh-CN", {"paused": r"已暂停在 \d+%", "ready": "可用", "broken": "已损坏", "sum": "校验和与发布的不一致"}),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_start_pause_restart_resume_corrupt_verify_repair(
    locale: str, words: dict[str, str], hub: Hub, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    hubs = dict.fromkeys(("MODELSCOPE_ENDPOINT", "HF_ENDPOINT", "GLMSTUDIO_MIRROR"), hub.url)
    folder = home / "models" / "chatglm3-6b"
    with browser() as chromium:
        with studio(home, **hubs) as first, visit(chromium, locale=locale) as visitor:
            page = visitor.open(first.url + "#model")
            page.click(f"{CARD} [data-act=download]")
            assert page.locator(f"{CARD} .gs-nudge").count() == 1  # nothing before the licence is accepted
            assert not folder.exists()
            page.check(f"{CARD} [data-tick]")
            page.click(f"{CARD} [data-act=download]")
            page.wait_for_selector(f"{CARD} [data-act=pause]", timeout=60_000)
            page.wait_for_selector(f"{CARD} .gs-run-progress .gs-number >> text=/[1-9]/", timeout=60_000)
            page.click(f"{CARD} details[data-key^=files] summary")
            assert page.locator(f"{CARD} .gs-files tr").count() == 7
            page.wait_for_selector(".gs-rail [data-go=model] .gs-running")
            page.click(f"{CARD} [data-act=pause]")
            assert re.fullmatch(words["paused"], chip(page, "note"))
            assert visitor.complaints == []
            assert visitor.outside == set()
        hub.rate = 0
        with studio(home, **hubs) as second, visit(chromium, locale=locale) as visitor:
            page = visitor.open(second.url + "#model")
            assert re.fullmatch(words["paused"], chip(page, "note"))
            page.click(f"{CARD} [data-act=resume]")
            assert chip(page, "good") == words["ready"]
            assert weights(folder) == weights(tmp_path / "hub" / REPOS[0])
            data = bytearray((folder / SHARD).read_bytes())
            data[9_000_000] ^= 1
            (folder / SHARD).write_bytes(data)
            page.click(f"{CARD} [data-act=verify]")
            assert chip(page, "bad") == words["broken"]
            page.wait_for_selector(f"{CARD} .gs-problem >> text={words['sum']}", timeout=60_000)
            before = hub.sent()
            page.click(f"{CARD} [data-act=repair]")
            assert chip(page, "good") == words["ready"]
            assert weights(folder) == weights(tmp_path / "hub" / REPOS[0])
            assert hub.sent() - before == 4 << 20  # one piece
            page.click(f"{CARD} [data-act=delete]")
            page.click("dialog button >> nth=1")
            page.wait_for_selector(f"{CARD} [data-act=download]")
            assert not folder.exists()
            assert visitor.complaints == []


@pytest.mark.parametrize(
    ("locale", "unknown", "what_next"),
    [("en-US", "No hub has a model ann/invented", "What next?"), rare("zh-CN", "没有你能访问的模型 ann/invented", "接下来做什么？")],
)  # fmt: skip
@pytest.mark.slow
def test_an_id_is_asked_for_added_downloaded_and_used(
    locale: str, unknown: str, what_next: str, hub: Hub, tmp_path: Path
) -> None:
    """Each answer is on the screen without scrolling, and the next step beside it."""
    make_model(tmp_path / "hub", "ann/mine", shard_bytes=1 << 20)
    hub.rate = 0
    hubs = dict.fromkeys(("MODELSCOPE_ENDPOINT", "HF_ENDPOINT", "GLMSTUDIO_MIRROR"), hub.url)
    with studio(tmp_path / "home", **hubs) as running, browser() as chromium, visit(chromium, locale=locale) as visitor:
        page = visitor.open(running.url + "#model")
        page.set_viewport_size({"width": 1280, "height": 800})

        def add(text: str, look: str) -> Any:
            page.fill("#model-folder textarea, #model-folder input", text)
            page.click("#model-add")
            answer = page.locator(f"#panel-folder .gs-problem.gs-{look}")
            answer.wait_for(timeout=60_000)
            page.wait_for_function(
                "() => { const box = document.querySelector('#panel-folder .gs-problem').getBoundingClientRect();"
                " return box.top >= 0 && box.bottom <= innerHeight; }"
            )
            return answer

        assert unknown in add("ann/invented", "bad").inner_text()
        assert page.locator("[data-key=model-invented]").count() == 0
        add(" 'ann/mine' ", "good").locator("[data-act=download]").click()
        done = page.locator("[data-key=model-mine] .gs-problem.gs-good")
        done.wait_for(timeout=60_000)
        assert what_next in done.inner_text()
        done.locator("[data-go=finetune]").click()
        page.wait_for_selector(".gs-rail [data-go=model] .gs-chip:has-text('ann/mine')", timeout=20_000)
        assert page.evaluate("document.documentElement.dataset.step") == "finetune"
        assert visitor.complaints == []
