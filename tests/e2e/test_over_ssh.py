"""An engineer on a shared server: the studio over ssh, its page at another local port, and somebody's leftover training."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from glmstudio.rundir.run import Run, find_run
from glmstudio.runs.stop import stop_run
from glmstudio.system.process import Identity, alive, port_is_free
from glmstudio.system.process_table import JOB
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.forwarder import forwarder
from tests.e2e.studio import Studio, studio
from tests.marks import one_language
from tests.waiting import until

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]
PORT = 29400
FAR = {"SSH_CONNECTION": "198.51.100.7 50022 203.0.113.5 2222", "LOGNAME": "ann"}
# A worker whose torchrun is gone, and who still holds the port at which they met.
LEFT = f"""
import socket, time
listener = socket.create_server(("127.0.0.1", {PORT}))
print(flush=True)
time.sleep(600)
"""
WORDS = {
    "en-US": ("Port 29400 is held by a leftover process of a training: {name} (process {pid})", "Running"),
    "zh-CN": ("端口 29400 被训练的残留进程占用：{name}（进程 {pid}）", "进行中"),
}


@pytest.mark.parametrize("locale", one_language(WORDS, "en-US"))
def test_a_run_on_a_shared_server_through_a_tunnel(
    locale: str, chromium: Any, home: Path, tmp_path: Path, orphan: Callable[..., Identity]
) -> None:
    held, running_word = WORDS[locale]
    until(lambda: port_is_free(PORT), 120, f"another program has port {PORT}")
    left = orphan("-S", "-c", LEFT, ready=True, **{JOB: "none", "RANK": "0", "MASTER_PORT": str(PORT)})
    try:
        with studio(home, **FAR) as ours, forwarder(ours.port) as port, visit(chromium, locale=locale) as visitor:
            printed = lines_of(ours)
            until(lambda: f"ssh -L {ours.port}:127.0.0.1:{ours.port} -p 2222 ann@203.0.113.5" in printed, 60, printed)
            page = visitor.open(f"http://127.0.0.1:{port}/?token={ours.key}#doctor")
            page.wait_for_selector(f"#panel-doctor [data-tick='{left.pid}']", timeout=90_000)
            assert held.format(name="python", pid=left.pid) in page.inner_text("#panel-doctor")
            assert not page.is_checked(f"[data-tick='{left.pid}']"), "it is not ours, so nobody has chosen it yet"

            page.click(".gs-rail [data-go=finetune]")
            page.locator("#finetune-name").locator("input, textarea").fill("far")
            page.click("#finetune-start:not([disabled])", timeout=90_000)
            page.wait_for_selector("#panel-run .gs-curve", timeout=180_000)
            page.reload()
            page.wait_for_selector("#panel-run [data-key=run-far] .gs-curve")
            assert running_word in page.inner_text("#panel-runs [data-run=far]")
            search_the_log(page, find_run("far"))
            assert steps_of(page, tmp_path / "far.csv") == [str(step) for step in range(1, 4)]
            assert {urlsplit(url).netloc for url in visitor.requests if url.startswith("http")} == {f"127.0.0.1:{port}"}
            assert visitor.complaints == []
        assert find_run("far").read_state().live, "it outlives the studio"
        assert alive(left), "nobody asked for its end"
    finally:
        for folder in (home / "runs").glob("*"):
            list(stop_run(Run(folder.name, folder), now=True))


def lines_of(ours: Studio) -> list[str]:
    """The lines that the studio prints, as they come, without what stands before and after."""
    printed: list[str] = []
    assert ours.process.stdout is not None
    lines = iter(ours.process.stdout.readline, "")
    threading.Thread(target=lambda: printed.extend(line.strip() for line in lines), daemon=True).start()
    return printed


def search_the_log(page: Any, run: Run) -> None:
    """Find a line of it again by a part in other letters; it comes with its number."""
    number, line = next((number, line) for number, line in enumerate(run.log()[0].splitlines(), 1) if line.strip())
    page.click("#panel-run details[data-key=log] > summary")
    page.fill("#panel-run [data-field=find]", line.strip()[:40].upper())
    page.wait_for_selector("#panel-run [data-key=log] [role=status]")
    assert f"{number}: {line}" in page.text_content("#panel-run [data-key=log] .gs-log:not(.gs-pinned)")


def steps_of(page: Any, file: Path) -> list[str]:
    """The first three steps of the metrics that are downloaded."""
    with page.expect_download() as told:
        page.click("#panel-run a[href*='metrics.csv']")
    told.value.save_as(file)
    return [row["step"] for row in csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())][:3]
