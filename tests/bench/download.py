"""How fast a download is: against curl on loopback, and with 8 connections against one where each is throttled.

`python -m tests.bench.download [--megabytes 1500] [--rounds 3]`. The hub of the tests runs as another process, so that
its work is not counted as ours. A and B in turn; the best of each counts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.published import make_model
from tests.models import REPO

_FETCH = """
import sys
from pathlib import Path
from glmstudio.models.catalogue import Entry
from glmstudio.models.hub.download import Options, download
model = Entry("chatglm3-6b", "ChatGLM3-6B", sys.argv[1], sys.argv[1])
options = Options(sources=("modelscope",), connections=int(sys.argv[3]))
download(model, Path(sys.argv[2]), options, lambda progress: None)
"""


def main() -> None:
    """Print the two ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--where", type=Path, default=None, help="a folder on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.where) as name:
        place = Path(name)
        against_curl(place, options.megabytes, options.rounds)
        throttled(place, options.rounds)


def against_curl(place: Path, megabytes: int, rounds: int) -> None:
    """Download, hash and write, against curl that only writes, to the same disk."""
    make_model(place / "fast", REPO, shards=1, shard_bytes=1 << 10)
    shard = next((place / "fast" / REPO).glob("*.bin"))
    with zipfile.ZipFile(shard, "w") as archive, archive.open("archive/data/1", "w", force_zip64=True) as stream:
        for _ in range(megabytes):
            stream.write(os.urandom(1 << 20))
    with hub(place / "fast") as url:
        address = f"{url}/api/v1/models/{REPO}/repo?Revision=master&FilePath={shard.name}"
        fetch(url, place / "warm", 4)  # the hub computes its sums once
        shutil.rmtree(place / "warm")
        ways = {
            "curl": lambda: run(["curl", "--silent", "--noproxy", "*", "--output", str(place / "curl"), address]),
            "ours, 1 connection": lambda: fetch(url, place / "ours", 1),
            "ours, 4 connections": lambda: fetch(url, place / "ours", 4),
        }
        best = in_turn(ways, rounds, place)
    for name, seconds in best.items():
        rate = megabytes * 1.048576 / seconds
        print(f"{name:22} {seconds:6.2f} s  {rate:6.0f} MB/s  {best['curl'] / seconds:5.2f} of curl")


def throttled(place: Path, rounds: int) -> None:
    """8 connections against one, where the server gives each 2 MB/s."""
    make_model(place / "slow", REPO, shards=2, shard_bytes=40 << 20)
    with hub(place / "slow", "--rate", "2e6") as url:
        fetch(url, place / "warm", 16)
        shutil.rmtree(place / "warm")
        best = in_turn(
            {
                "1 connection": lambda: fetch(url, place / "ours", 1),
                "8 connections": lambda: fetch(url, place / "ours", 8),
            },
            min(rounds, 2),
            place,
        )
    one, eight = best.values()
    print(
        f"throttled to 2 MB/s each: 1 connection {one:.1f} s, 8 connections {eight:.1f} s: {one / eight:.2f} times as fast"
    )


def in_turn(ways: dict[str, Callable[[], None]], rounds: int, place: Path) -> dict[str, float]:
    """The best time of each way, in seconds; what it wrote is deleted between."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            os.sync()
            begun = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - begun)
            shutil.rmtree(place / "ours", ignore_errors=True)
            (place / "curl").unlink(missing_ok=True)
    return {name: min(each) for name, each in times.items()}


def fetch(url: str, folder: Path, connections: int) -> None:
    """Our whole thing, its start included."""
    home = {"GLMSTUDIO_HOME": str(folder) + "-home", "MODELSCOPE_ENDPOINT": url, "NO_PROXY": "*"}
    run([sys.executable, "-c", _FETCH, REPO, str(folder), str(connections)], **home)
    shutil.rmtree(home["GLMSTUDIO_HOME"], ignore_errors=True)


def run(command: list[str], **more: str) -> None:
    """Run it to its end."""
    subprocess.run(command, check=True, env={**os.environ, **more})


@contextmanager
def hub(root: Path, *more: str) -> Iterator[str]:
    """The hub as a process of its own; yields its address."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.hub", "--root", str(root), *more], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[1]
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
