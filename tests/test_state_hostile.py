"""No file of the studio's own folder, whatever became of it, keeps the page from loading or a command from answering."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glmstudio.chat import history
from glmstudio.chat.conversation import Conversation
from glmstudio.cli import main
from glmstudio.files import write_json
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.state.page_state import ChatState, PageState, RunsState
from tests.drawn_page import RUN, drawn
from tests.marks import rare, slow

pytest_plugins = ["tests.drawn_page"]

HUGE = 10**30
WRONG: list[tuple[str, Any]] = [
    ("a list", []), ("a list of lists", [[[]]]), ("a number", 5), ("a huge number", HUGE), ("text", "x"), ("null", None),
    ("nothing", {}), ("half a character", {"\ud83d": "\ud83d", "name": "\ud83d", "model": "\ud83d", "title": "\ud83d"}),
]  # fmt: skip


def broken_json(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content)


def _all(value: Any, into: Any) -> Any:
    """The value with every plain part replaced."""
    if isinstance(value, dict):
        return {name: _all(each, into) for name, each in value.items()}
    return [_all(each, into) for each in value] if isinstance(value, list) else into


def replaced(into: Any) -> Callable[[Path], None]:
    def put(file: Path) -> None:
        try:
            value = json.loads(file.read_text())
        except ValueError:
            value = into
        file.write_text(json.dumps(_all(value, into)))

    return put


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _link(to: str) -> Callable[[Path], None]:
    def put(file: Path) -> None:
        file.unlink()
        file.symlink_to(to)

    return put


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


CORRUPTIONS: dict[str, Callable[[Path], None]] = {
    **{name: broken_json(json.dumps(value).encode("utf-8", "surrogatepass")) for name, value in WRONG},
    "empty": broken_json(b""), "half": broken_json(b'{"a": '), "no text": broken_json(b"\xff\xfe\x00"),
    "deep": broken_json(b"[" * 100_000), "nan": broken_json(b'{"port": NaN, "created": Infinity}'),
    "all text": replaced("x"), "all numbers": replaced(-1), "all huge": replaced(HUGE), "all lists": replaced([]),
    "all null": replaced(None), "all tables": replaced({"a": 1}),
    "a pipe": _fifo, "a device": _link("/dev/zero"), "a loop": _link("run.json"), "a folder": _folder,
}  # fmt: skip
FILES: dict[str, Any] = {
    "state/server.json": {"model": "demo", "adapters": ["one"], "port": 5, "bits": 16, "run_id": "x", "identity": None},
    "state/server-told.json": {"run_id": "x", "state": "ready"},
    "state/server-token": "key",
    "state/server.log": "line",
    "state/models.json": {"mine": "/nowhere"},
    "state/catalogue.json": {"some/model": {"title": "x"}},
    "state/licences.json": {"chatglm3-6b": 1.0},
    "state/choice.json": {"model": "demo"},
    "state/tools.json": {"permissions": {"calculator": "always"}, "folder": "/tmp"},
    "state/queue.json": ["one"],
    "state/bench.json": {"time": 1.0},
    "state/doctor.json": {},
    "runs/one/run.json": RUN,
    "runs/one/status.json": {"state": "finished", "ended": 6.0},
    "runs/one/progress.json": {"phase": "done", "time": 6.0},
    "runs/one/records.json": {"used": 20, "trained": 19, "with_tools": 0, "validation": 1},
    "runs/one/opening.json": {"ids": [1, 2], "tools": False},
    "runs/one/notes.json": {"note": "mine"},
    "runs/one/proof.json": {"processes": 0},
    "runs/one/stop.json": {"now": False},
    "runs/one/cluster.json": {"machines": []},
    "runs/one/metrics.jsonl": {"step": 1, "loss": 2.0, "seconds": 1.0},
    "runs/one/samples.jsonl": {"step": 1, "question": "a", "answer": "b"},
    "runs/one/ranks.jsonl": {"rank": 0, "step": 1},
    "runs/one/train.log": "line",
    "models/mine/config.json": {"model_type": "chatglm", "num_layers": 2},
    "models/mine/glmstudio.json": {"files": {"config.json": {"sha256": "0" * 64, "size": 5}}},
    "models/mine/model.safetensors.index.json": {"weight_map": {"a": "b"}},
    "mcp.json": {"mcpServers": {}},
    "presets/demo/mine.toml": "steps = 5",
}


NOT_JSON = ("empty", "half", "no text", "deep", "a pipe", "a device", "a folder")
TOLD = ("state/server.json", "state/models.json", "runs/one/run.json", "runs/one/status.json", "state/tools.json")


def layout(home: Path) -> None:
    """A home with a file of every kind."""
    for name, value in FILES.items():
        write_json(home / name, value)
    (home / "runs/one/result").mkdir(exist_ok=True)
    dialogue = Conversation()
    dialogue.ask("hello", None)
    history.write(dialogue)


VIEWS = (PageState(), PageState(runs=RunsState("one", ("one", "one")), chat=ChatState("demo", "one")))
COMMANDS = (["runs", "list", "--json"], ["runs", "show", "one"], ["models", "list"], ["runs", "queue"])


@pytest.mark.parametrize(
    "how",
    [slow(how) if number % 8 == 0 or how == "a pipe" else rare(how) for number, how in enumerate(CORRUPTIONS)],
)
def test_whatever_a_file_becomes_the_page_loads(
    how: str, built: PageRenderer, home: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    layout(home)
    names = [*FILES, *(f"chats/{file.name}" for file in (home / "chats").glob("*.json"))]
    for name in names:
        file = home / name
        before = file.read_bytes()
        CORRUPTIONS[how](file)
        for view in VIEWS:
            drawn(built, view)
        if name in TOLD and how in NOT_JSON:
            assert f"{file} cannot be read" in drawn(built, PageState()), name
        for command in COMMANDS:
            status = main(command)
            assert status in (0, 1), (name, command)
        said = capsys.readouterr()
        assert "broke.log" not in said.err, (name, (home / "state/broke.log").read_text())
        assert "Traceback" not in said.err + said.out, (name, said.err)
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        else:
            file.unlink()
        file.write_bytes(before)
    assert [record.getMessage() + str(record.exc_info) for record in caplog.records] == []
