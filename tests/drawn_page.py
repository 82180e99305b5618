"""The page as it is sent, without a browser. A test file asks for the fixture by `pytest_plugins`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.shell import page as page_module
from glmstudio.ui.state.page_state import PageState

RUN = {
    "preset": "demo/lora", "settings": {"model": "demo", "method": "lora", "steps": 9, "data": "x"}, "created": 5.0,
    "run_id": "0" * 32, "boot": "b", "monotonic": 1.0, "port": 29400, "device": "cpu", "attempts": 1,
    "supervisor": {"pid": 999999, "started": 1.0, "boot_id": "b"}, "agent": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def built() -> PageRenderer:
    kept: list[PageRenderer] = []
    real = PageRenderer.connect

    def connect(self: PageRenderer, *given: Any) -> None:
        kept.append(self)
        real(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PageRenderer, "connect", connect)
        page_module.build_page()
    return kept[0]


def drawn(page: PageRenderer, view: PageState) -> str:
    """Everything that a browser would be sent, as gradio writes it."""
    clear_caches()
    sent = []
    _, *updates = page._refresh("en", view, {})
    sent += [orjson.dumps(each, option=orjson.OPT_NON_STR_KEYS).decode() for each in updates if each]
    return "".join(sent)
