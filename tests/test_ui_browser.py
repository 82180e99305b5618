"""The page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from glmstudio.system.process import alive
from tests.e2e.browser import CHROMIUM, browser, visit
from tests.e2e.forwarder import forwarder
from tests.e2e.studio import Studio, studio
from tests.fakes.nvml import FakeDriver
from tests.marks import rare, slow

pytest.importorskip("playwright")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")

STEPS = ("doctor", "model", "finetune", "chat")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.mark.parametrize(
    ("width", "locale", "first"),
    [(1280, "en-US", "Doctor"), (900, "zh-CN", "体检"), rare(900, "en-US", "Doctor"), rare(1280, "zh-CN", "体检")],
)
def test_every_step_in_the_browsers_language(
    running: Studio, chromium: Any, width: int, locale: str, first: str
) -> None:
    with visit(chromium, locale=locale, width=width) as visitor:
        page = visitor.open(running.url)

        assert page.inner_text(".gs-rail b >> nth=0") == first
        for step in STEPS:
            page.click(f".gs-rail [data-go={step}]")
            page.wait_for_selector(f"#step-{step}", state="visible")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, step
            assert page.locator(".gs-step:visible").count() == 1
        assert visitor.outside == set()
        assert visitor.complaints == []


@pytest.mark.slow
def test_the_language_is_switched_without_losing_what_was_typed(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#finetune")
        page.locator("#finetune-name").locator("input, textarea").fill("my-run")
        page.click("[data-lang=zh]")
        page.wait_for_selector("#finetune-start:has-text('开始微调')")

        assert page.locator("#finetune-name textarea, #finetune-name input").input_value() == "my-run"
        assert page.evaluate("document.documentElement.dataset.step") == "finetune"
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        page.reload()
        page.wait_for_selector("#finetune-start:has-text('开始微调')")


@pytest.mark.slow
def test_dark_is_remembered(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url)
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        page.click("[data-theme-toggle]")
        page.reload()
        page.wait_for_selector(".gs-rail")

        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate("document.body.classList.contains('dark')")


@pytest.mark.slow
def test_the_doctor_runs_by_itself_and_again(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#doctor")
        page.wait_for_selector("#panel-doctor [data-act=check]", timeout=20_000)
        page.wait_for_selector(".gs-rail [data-go=doctor]:not(:has(.gs-running))")
        page.click("#panel-doctor [data-act=check]")
        page.wait_for_selector("#panel-doctor [data-act=check]", timeout=20_000)

        assert page.locator("#panel-doctor .gs-check").count() > 5


@pytest.mark.parametrize(
    ("locale", "end", "said"),
    [("en-US", "End these processes", "has ended."), slow("zh-CN", "结束这些进程", "已结束。")],
)
def test_a_leftover_is_ticked_ended_and_proven(
    locale: str, end: str, said: str, chromium: Any, running: Studio, orphan: Any
) -> None:
    left = orphan("-c", "import time; time.sleep(120)", TORCHELASTIC_RUN_ID="x")
    with visit(chromium, locale=locale) as visitor:
        page = visitor.open(running.url + "#doctor")
        page.wait_for_selector("#panel-doctor [data-act=check]", timeout=60_000)
        page.click("#panel-doctor [data-act=check]")
        page.wait_for_selector(f"[data-tick='{left.pid}']", timeout=60_000)
        assert page.locator("#panel-doctor .gs-finding", has_text=str(left.pid)).count() == 0, (
            "listed once: in the table"
        )
        assert page.is_visible("#panel-doctor [data-go=model]"), "a warning keeps nobody from going on"
        assert page.inner_text(".gs-rail [data-go=doctor] .gs-chip") == page.inner_text("#panel-doctor .gs-verdict h2")
        page.click("#panel-doctor [data-tick-all]")
        assert page.is_checked(f"[data-tick='{left.pid}']")
        page.click("#panel-doctor [data-tick-all]")  # others on this machine stay as they are
        page.check(f"[data-tick='{left.pid}']")
        page.click(f"#panel-doctor >> text={end}")
        page.click(f".gs-dialog button >> text={end}")
        page.wait_for_selector(f"#panel-doctor .gs-plain >> text={said}", timeout=60_000)

        assert not alive(left)
        assert str(left.pid) in page.inner_text("#panel-doctor .gs-plain")
        assert visitor.complaints == []


@pytest.mark.slow
def test_the_report_is_copied_without_paths(chromium: Any, running: Studio) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#doctor")
        page.wait_for_selector("#panel-doctor [data-copy]", timeout=20_000)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.click("#panel-doctor .gs-verdict [data-copy]")
        page.wait_for_selector("#panel-doctor .gs-verdict >> text=Copied")
        copied = page.evaluate("navigator.clipboard.readText()")

        assert copied.startswith("GLM Studio ")
        assert "py.version (ok): Python 3." in copied
        assert str(running.home) not in copied


def test_a_folder_that_is_no_model_is_answered_at_once(running: Studio, chromium: Any, tmp_path: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#model")
        page.get_by_label("I already have it, or know its id").fill(str(tmp_path))
        page.click("#model-add")
        page.wait_for_selector("#panel-folder .gs-problem", timeout=5_000)

        assert str(tmp_path) in page.inner_text("#panel-folder")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_works_at_the_other_end_of_a_tunnel(name: str, running: Studio, chromium: Any, tmp_path: Any) -> None:
    with forwarder(running.port) as port, visit(chromium) as visitor:
        page = visitor.open(f"http://{name}:{port}/?token={running.key}#model")
        page.get_by_label("I already have it, or know its id").fill(str(tmp_path))
        page.click("#model-add")
        page.wait_for_selector("#panel-folder .gs-problem", timeout=5_000)

        assert str(tmp_path) in page.inner_text("#panel-folder")
        assert {urlsplit(url).netloc for url in visitor.requests if url.startswith("http")} == {f"{name}:{port}"}
        assert visitor.complaints == []


@pytest.mark.slow
def test_the_rail_works_by_keyboard(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#doctor")
        page.locator(".gs-rail [data-go=doctor]").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")

        assert page.evaluate("document.documentElement.dataset.step") == "model"


@pytest.mark.slow
def test_a_page_says_that_its_studio_is_gone_and_recovers(chromium: Any, tmp_path: Path) -> None:
    with studio(tmp_path) as first, visit(chromium, locale="zh-CN") as visitor:
        page = visitor.open(first.url + "#model")
        first.process.kill()
        page.wait_for_selector(".gs-lost:visible", timeout=15_000)
        assert "GLM Studio 没有响应" in page.inner_text(".gs-lost")

        with studio(tmp_path, "--port", str(first.port)) as second:
            page.wait_for_function("document.querySelector('.gs-lost').innerText.includes('密钥')", timeout=15_000)
            page.evaluate("window.old = true")
            again = page.context.new_page()
            again.goto(second.url)
            again.close()
            page.wait_for_function("!window.old && document.querySelector('.gs-rail [aria-current]')", timeout=15_000)
            page.wait_for_selector(".gs-lost", state="hidden", timeout=15_000)
            page.fill("#model-folder textarea, #model-folder input", "/no/such/folder")
            page.click("#model-add")
            page.wait_for_selector("#panel-folder .gs-problem", timeout=10_000)
            assert "/no/such/folder" in page.inner_text("#panel-folder")
            assert page.inner_text(".gs-rail b >> nth=1") == "模型"


@pytest.mark.slow
def test_each_gpu_has_a_bar_and_a_card(chromium: Any, tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path)
    cards = "driver=550.54.14 cuda=12040 v2=1\nNVIDIA GeForce RTX 4090|24564|18810|93|67|310000|450000|1:310\n"
    with studio(tmp_path / "home", **driver.environment(cards)) as running, visit(chromium) as visitor:
        page = visitor.open(running.url + "#doctor")
        page.wait_for_selector(".gs-machine .gs-bar", timeout=20_000)
        assert page.inner_text(".gs-machine").split("\n") == ["GPU 0", "18.7 GiB / 24.0 GiB"]
        assert page.inner_text("details[data-key=gpus] > summary") == "GPUs: NVIDIA GeForce RTX 4090"
        assert "67 °C" in page.inner_text("[data-key=gpu-0]")

        driver.environment(cards.replace("|18810|", "|2048|"))
        page.wait_for_selector(".gs-machine:has-text('2.3 GiB / 24.0 GiB')", timeout=15_000)


@pytest.mark.rare  # tests/e2e/test_chat_page.py goes the same way
def test_a_question_is_answered_with_a_tool_and_the_turn_survives_a_reload(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#chat")
        page.click("#panel-server [data-act=load]")
        page.wait_for_selector(".gs-examples", timeout=90_000)
        page.click(".gs-examples button >> nth=0")
        page.wait_for_selector(".gs-foot", timeout=60_000)

        assert page.inner_text(".gs-call b") == "Calculator"
        assert page.inner_text(".gs-call dd >> nth=0") == "37*12"
        assert page.inner_text(".gs-call dd >> nth=1") == "444"
        assert "444" in page.inner_text(".gs-model-says")
        page.reload()
        page.wait_for_selector(".gs-call")
        page.click("#chat-clear")
        page.wait_for_selector(".gs-examples")
        page.click("#panel-server [data-act=unload]")
        page.wait_for_selector("#panel-server .gs-chip.gs-waiting")
        assert visitor.complaints == []


@pytest.mark.rare  # tests/e2e/test_finetune_page.py goes the same way
def test_a_run_is_started_once_shown_live_and_stopped(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#finetune")
        page.locator("#finetune-name").locator("input, textarea").fill("from the page")
        page.dblclick("#finetune-start:not([disabled])", timeout=60_000)
        page.wait_for_selector(".gs-rail [data-go=finetune] .gs-running", timeout=20_000)
        assert "You can close this window; training goes on." in page.inner_text("#panel-start")
        page.wait_for_selector("#panel-run .gs-curve", timeout=120_000)
        page.goto("about:blank")
        page = visitor.open(running.url)
        assert page.evaluate("document.documentElement.dataset.step") == "finetune"
        page.click("#panel-run [data-act=stop-now]")
        assert "from the page" in page.inner_text("dialog")
        page.click("dialog .gs-look-danger")
        page.wait_for_selector("#panel-run .gs-chip.gs-note", timeout=120_000)

        assert [folder.name for folder in (running.home / "runs").iterdir()] == ["from the page"]
        assert page.locator(".gs-run").count() == 1
        assert visitor.complaints == []
