"""What a page consists of: components with their renderers, and what a click on them does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gradio.components import Component

Renderer = Callable[[str, Any], dict[str, Any]]
Action = Callable[..., Any]


@dataclass
class Live:
    """A component that is kept as its renderer says."""

    component: Component
    render: Renderer
    step: str  # drawn while this step is open; "" is always


@dataclass
class Binding:
    """What a click, or another event, does."""

    trigger: Callable[..., Any]
    action: Action
    inputs: Sequence[Component]
    outputs: Sequence[Component] = ()
    following: Component | None = None
    mode: str = "multiple"
    event: bool = False
    js: str | None = None
    after_js: str | None = None  # what the browser does once the answer is there, or failed
    part: str = ""  # what it takes and returns; "" is the whole state
