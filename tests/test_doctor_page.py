"""The Doctor step used for real on a machine whose name leads nowhere: shown, mended, undone by clicking."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import browser, visit
from tests.e2e.studio import login
from tests.marks import rare

ROOT = Path(__file__).parent.parent
# A machine called nlp with an /etc of its own. This one may be a container, where the page would name another remedy.
SCENE = """
set -e
mount --make-rprivate /
mkdir "$1/etc"; cp -a /etc/. "$1/etc"; printf '127.0.0.1 localhost' > "$1/etc/hosts"; mount --bind "$1/etc" /etc
hostname nlp
exec "$2" -c "
import sys
from glmstudio.doctor.checks import hostname as names
names.in_container = lambda: False
from glmstudio.ui.shell.app import main
sys.exit(main(['--no-browser']))"
"""


@pytest.fixture
def nlp(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a studio on that machine, and its hosts file."""
    home = tmp_path / "home"
    studio = subprocess.Popen(
        ["unshare", "--mount", "--uts", "bash", "-c", SCENE, "scene", str(tmp_path), sys.executable],
        cwd=ROOT,
        env={**os.environ, "GLMSTUDIO_HOME": str(home)},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield _address(home), tmp_path / "etc" / "hosts"
    finally:
        studio.send_signal(signal.SIGTERM)
        studio.wait(15)


def _address(home: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            record = json.loads((home / "state" / "studio.json").read_text())
            login(record["port"], record["token"])
        except (OSError, ValueError, http.client.HTTPException):
            time.sleep(0.1)
        else:
            return f"http://127.0.0.1:{record['port']}/?token={record['token']}"
    raise AssertionError("the studio never answered")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("locale", "add", "done", "changes", "undo"),
    [
        rare(
            "en-US",
            "Add the line",
            "now resolves to this machine.",
            "Changes made here by the doctor",
            "Remove the line",
        ),
        ("zh-CN", "加入这一行", "现在指向本机。", "体检功能在这里做过的改动", "删除这一行"),
    ],
)
def test_a_name_is_mended_and_undone_by_clicking(
    locale: str, add: str, done: str, changes: str, undo: str, nlp: tuple[str, Path]
) -> None:
    address, hosts = nlp
    with browser() as chromium, visit(chromium, locale=locale) as visitor:
        page = visitor.open(address + "#doctor")
        page.wait_for_selector("#panel-doctor .gs-diff", timeout=30_000)
        assert "+127.0.1.1\tnlp\t# added by GLM Studio" in page.inner_text("#panel-doctor .gs-diff")
        page.click(f"#panel-doctor button >> text={add}")
        page.click(f".gs-dialog button >> text={add}")
        page.wait_for_selector(f"#panel-doctor .gs-problem >> text={done}", timeout=20_000)
        assert b"127.0.1.1\tnlp\t" in hosts.read_bytes()
        page.wait_for_selector("#panel-doctor .gs-verdict.gs-good", timeout=20_000)
        page.click(f"summary >> text={changes}")
        page.click(f"#panel-doctor button >> text={undo}")
        page.click(f".gs-dialog button >> text={undo}")
        page.wait_for_selector(f"#panel-doctor button >> text={add}", timeout=20_000)
        assert hosts.read_bytes() == b"127.0.0.1 localhost"
        assert visitor.complaints == []
