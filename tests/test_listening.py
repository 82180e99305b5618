"""What the studio does on one machine can be reached from that machine alone: a chat, a download, a score."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from glmstudio.chat.loop import ChatRequest, Finished, converse
from glmstudio.chat.model_server import ModelServer, wait_until_ready
from glmstudio.cli import main
from glmstudio.paths import SAMPLE
from glmstudio.tools.toolbox import toolbox
from tests.downloads import begin, wait
from tests.e2e.studio import get, studio
from tests.fakes.hub import Hub
from tests.listening import beyond, watching
from tests.models import weights
from tests.waiting import until

pytest_plugins = ["tests.downloads"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_the_watch_sees_what_others_reach() -> None:
    with watching() as found, socket.create_server(("0.0.0.0", 0)) as server:
        address = f"00000000:{server.getsockname()[1]:04X}"
        until(lambda: address in found)
    assert address in beyond(found)


@pytest.mark.slow
def test_a_chat_with_a_tool_beside_an_open_page(home: Path) -> None:
    with watching() as found:
        try:
            with studio(home) as page:
                ModelServer.start("demo")
                port = wait_until_ready(120).port
                question = {"role": "user", "content": "How many times does the letter r appear in strawberry?"}
                key = ModelServer.key()
                events = list(
                    converse(ChatRequest(port, "demo", [question], [toolbox().tools["count_letters"]], key=key))
                )
                assert any(isinstance(each, Finished) for each in events)
                assert get(page.port, "/", page.cookie)[0] == 200
        finally:
            ModelServer.stop()
    assert beyond(found) == set()
    assert {int(each.split(":")[1], 16) for each in found} >= {page.port, port}


def test_a_download(hub: Hub, folder: Path, published: Path) -> None:
    hub.rate = 2e6
    with watching() as found:
        begin(folder)
        assert wait(folder).state == "done"
    assert weights(folder) == weights(published)
    assert beyond(found) == set()


@pytest.mark.slow
def test_a_score(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with watching() as found:
        assert main(["score", str(SAMPLE), "--count", "3"]) == 0
    assert "3 questions" in capsys.readouterr().out
    assert beyond(found) == set()
    assert found
