"""What an open page costs while nothing happens, against an empty gradio page: `python -m tests.bench.idle_page`.

CPU time of the server's process in percent of one core over 60 seconds: the studio with one page in headless Chromium,
at each of its steps in turn, and a gradio page with one line of text, open in the same browser all the while.
`--seconds 20` measures shorter, `--step chat` only one.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.e2e.browser import browser, visit
from tests.e2e.studio import studio

STEPS = ("doctor", "model", "finetune", "chat")
_SETTLED = 20  # seconds until the check-up is over, and nothing happens any more
_BARE = """
import gradio as gr, sys
with gr.Blocks(analytics_enabled=False) as page:
    gr.Markdown("bare")
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), quiet=True)
"""


def main() -> None:
    """Print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--step", choices=STEPS)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        studio(Path(folder) / "home") as ours,
        bare() as (other, address),
        browser() as chromium,
        visit(chromium) as left,
        visit(chromium) as right,
    ):
        right.page.goto(address)
        page = left.open(ours.url)
        time.sleep(_SETTLED)
        for step in (options.step,) if options.step else STEPS:
            page.click(f".gs-rail [data-go={step}]")
            time.sleep(12)  # until the page no longer counts as touched
            mine, empty = cost([psutil.Process(ours.process.pid), other], options.seconds)
            print(f"{step:10} studio {mine:5.2f} %   empty gradio page {empty:5.2f} %   of one core", flush=True)


def cost(processes: list[psutil.Process], seconds: float) -> list[float]:
    """Percent of a core that each of them used meanwhile."""
    before = [used(each) for each in processes]
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return [100 * (used(each) - start) / took for each, start in zip(processes, before, strict=True)]


def used(process: psutil.Process) -> float:
    """Seconds of CPU, with those of children that have ended."""
    return sum(process.cpu_times()[:4])


@contextmanager
def bare() -> Iterator[tuple[psutil.Process, str]]:
    """An empty gradio page, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False"}
    child = subprocess.Popen([sys.executable, "-c", _BARE, str(port)], env=environment, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield psutil.Process(child.pid), f"http://127.0.0.1:{port}/"
    finally:
        child.terminate()
        child.wait()


if __name__ == "__main__":
    main()
