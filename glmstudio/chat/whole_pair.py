"""The process that holds a base model and a whole model beside it, for as long as somebody asks them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from glmstudio.errors import StudioError
from glmstudio.paths import ROOT, child_environment
from glmstudio.rundir.occupancy import chat_device, run_on

IDLE = 120.0  # seconds after the last question until the memory is given back
_LOOK = 2.0


class WholePair:
    """One pair at a time. It ends with this process, when nobody asks any more, and when a run needs its device."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._models: tuple[Path, Path] | None = None
        self._said: deque[str] = deque(maxlen=5)
        self._asked = 0.0
        self._lock = threading.Lock()

    def ask(self, model: Path, learned: Path, prompt: Sequence[int]) -> dict[str, Any]:
        """The two answers of `serve.versus`, loaded if they are not. Raises StudioError."""
        with self._lock:
            process = self._loaded(model, learned)
            try:
                process.stdin.write(json.dumps({"ids": list(prompt)}) + "\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                told: dict[str, Any] = json.loads(process.stdout.readline())  # type: ignore[union-attr]
            except (OSError, ValueError) as error:
                self._end()
                raise StudioError("ui.run.versus_broke", reason=" ".join(self._said)[-300:]) from error
            finally:
                self._asked = time.monotonic()
        if "problem" in told:
            raise StudioError.from_json(told["problem"])
        return told

    def end(self) -> None:
        """Give the memory back."""
        with self._lock:
            self._end()

    def _loaded(self, model: Path, learned: Path) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None and self._models == (model, learned):
            return self._process
        self._end()
        self._said.clear()
        started = subprocess.Popen(
            [sys.executable, "-m", "glmstudio.serve.versus", str(model), str(learned)],
            cwd=ROOT,
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._process, self._models, self._asked = started, (model, learned), time.monotonic()
        threading.Thread(target=self._listen, args=(started.stderr,), daemon=True, name="pair-log").start()
        threading.Thread(target=self._watch, args=(started,), daemon=True, name="pair").start()
        return started

    def _listen(self, log: IO[str]) -> None:
        with log:
            self._said.extend(line.strip() for line in log if line.strip())

    def _watch(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            time.sleep(_LOOK)
            with self._lock:
                if self._process is process and (time.monotonic() - self._asked > IDLE or run_on(chat_device())):
                    self._end()

    def _end(self) -> None:
        process, self._process, self._models = self._process, None, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError, AttributeError):
                pipe.close()  # type: ignore[union-attr]  # the end of its input ends it
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


PAIR = WholePair()
