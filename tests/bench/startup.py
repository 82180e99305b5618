"""Start-up against a bare gradio app and against `import torch`: `python -m tests.bench.startup [--rounds 5]`.

A and B in turn, wall time and CPU time of whole processes; the ratio of the smallest is what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BARE = """
import gradio as gr, os, sys
with gr.Blocks() as page:
    gr.Markdown("bare")
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), quiet=True)
"""


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    pages: dict[str, list[tuple[float, float]]] = {"bare gradio": [], "studio": []}
    commands: dict[str, list[tuple[float, float]]] = {"import torch": [], "launcher.py --help": []}
    for _ in range(rounds):
        pages["bare gradio"].append(first_page([sys.executable, "-c", _BARE]))
        with tempfile.TemporaryDirectory() as home:
            pages["studio"].append(first_page([sys.executable, "-m", "glmstudio", "--no-browser", "--port"], home))
        commands["import torch"].append(whole([sys.executable, "-c", "import torch"]))
        commands["launcher.py --help"].append(whole([sys.executable, "launcher.py", "--help"]))
    for table in (pages, commands):
        (first, base), (second, ours) = table.items()
        for name, rows in ((first, base), (second, ours)):
            print(f"{name:20} wall {min(r[0] for r in rows):6.2f} s   CPU {min(r[1] for r in rows):6.2f} s")
        for index, kind in enumerate(("wall", "CPU")):
            print(f"{second} / {first}: {kind} {min(r[index] for r in ours) / min(r[index] for r in base):.2f}")


def first_page(command: list[str], home: str = "") -> tuple[float, float]:
    """Wall and CPU seconds from the start of the process to its first page."""
    port = _free_port()
    env = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False"} | ({"GLMSTUDIO_HOME": home} if home else {})
    began = time.perf_counter()
    child = subprocess.Popen(
        [*command, str(port)], cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                with _browser().open(f"http://127.0.0.1:{port}/{_key(home)}", timeout=60) as reply:
                    reply.read()
                break
            except (OSError, ValueError):
                if child.poll() is not None:
                    raise SystemExit(f"{command} ended early") from None
                time.sleep(0.02)
        return time.perf_counter() - began, _cpu(child.pid)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()


def _browser() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.HTTPCookieProcessor())


def _key(home: str) -> str:
    """What follows the address of the studio of this home. Raises OSError and ValueError as long as it is not known."""
    return f"?token={json.loads((Path(home) / 'state/studio.json').read_text())['token']}" if home else ""


def whole(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, spent


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
