"""How the page stays up to date: every component has a renderer, and a refresh sends only what changed.

An action, a change of language and the clock all end in the same refresh. So no handler knows which other part of the
page its work shows up in, and a tick in which nothing happened moves nothing on the screen.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import gradio as gr
from gradio.components import Component

from glmstudio.errors import StudioError, refused
from glmstudio.files import whole_text
from glmstudio.ui.framework.markup import Html, problem
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.framework.visitors import State, Visitors
from glmstudio.words import say

log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_S = 1.0
# Quick handlers never wait behind a stream in gradio's queue, and nothing on the page flickers while they run.
_QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_STREAM: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


Renderer = Callable[[str, Any], dict[str, Any]]
Action = Callable[..., Any]


@dataclass
class _Live:
    component: Component
    render: Renderer
    step: str  # drawn while this step is open; "" is always


@dataclass
class _Binding:
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


@dataclass
class PageRenderer:
    """The components of one page and their renderers. Build inside `gr.Blocks`, then `connect`.

    `speaks` tells the language of a request: a cookie of the browser, so that it outlives this process. `first` is the
    state of a page before a browser has arrived: a frozen dataclass with a field `problem`, and a field for each part
    that renderers and actions are registered for.
    """

    speaks: Callable[[gr.Request], str]
    first: State
    _live: list[_Live] = field(default_factory=list)
    _bindings: list[_Binding] = field(default_factory=list)
    _first: list[tuple[Component, Callable[[str, Any], Any]]] = field(default_factory=list)
    _followed: list[tuple[Component, Any, Any]] = field(default_factory=list)
    _visitors: Visitors = field(default_factory=Visitors)
    _step: str = ""
    _part: str = ""

    def __post_init__(self) -> None:
        self.state, self.seen = gr.State(self.first), gr.State({})
        self._open = gr.Textbox(visible=False)  # the step that the browser shows
        self._kept = gr.Textbox(visible=False)  # what the browser kept of an earlier visit

    @contextmanager
    def step(self, name: str, part: str = "") -> Iterator[None]:
        """A step: what is registered inside is drawn while it is open, and gets that `part` of the state."""
        with gr.Column(elem_id=f"step-{name}", elem_classes="gs-step"), self.part(part):
            self._step = name
            yield
            self._step = ""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is registered inside gets that part of the state; "" is all of it."""
        outer, self._part = self._part, name
        yield
        self._part = outer

    def live(self, component: Any, render: Renderer) -> Any:
        """Keep the properties of `component` as `render(lang, state)` says."""
        self._live.append(_Live(component, _of_part(self._part, render), self._step))
        return component

    def at_first(self, component: Component, value: Callable[[Any], Any]) -> None:
        """Give a field that people type in the `value(state)` of a page that has just arrived, and leave it alone."""
        self._first.append((component, _of_part(self._part, lambda _, state: value(state))))

    def words(self, component: Any, **keys: str) -> Any:
        """Keep properties of `component` at texts in the language of the page."""
        return self.live(component, lambda lang, _: {name: say(lang, key) for name, key in keys.items()})

    def panel(
        self,
        name: str,
        render: Callable[[str, Any], Html],
        act: Action | None = None,
        inputs: Sequence[Component] = (),
        *,
        whole: bool = False,
    ) -> gr.HTML:
        """A component with our own HTML, whose buttons call `act(state, data, *inputs)` -> state.

        A button that opens a step sends the name of the step as `go`.
        """
        made = gr.HTML(
            "",
            html_template='<div class="gs-slot"></div>',
            js_on_load='studio.panel(element, (data) => trigger("act", data), watch, props);',
            apply_default_css=False,
            elem_id=f"panel-{name}",
        )
        self.live(made, lambda lang, state: {"value": _drawn(name, render, lang, state)})
        if act:
            self.on(made.act, act, inputs, event=True, following=made, whole=whole)
        return made

    def follow(self, panel: gr.HTML, render: Callable[[str, Any], Html], changes: Callable[[], Iterator[None]]) -> None:
        """After an action that names `panel` in `following`, redraw it at each of `changes()`, not once a second."""
        self._followed.append((panel, _of_part(self._part, render), changes))

    def on(
        self,
        trigger: Callable[..., Any],
        action: Action,
        inputs: Sequence[Component] = (),
        outputs: Sequence[Component] = (),
        *,
        whole: bool = False,
        **options: Any,
    ) -> None:
        """Call `action(state, *inputs)` -> state, or (state, *outputs), and refresh the page.

        It is called with its part of the state, or, where it reaches into others, with the `whole` one.
        """
        part = "" if whole else self._part
        self._bindings.append(_Binding(trigger, action, inputs, outputs, part=part, **options))

    def connect(self, arrive: Callable[[dict[str, Any]], State], load: Callable[..., Any]) -> None:
        """Wire everything registered, the clock, and the arrival of a browser, whose state `arrive` makes of what the
        browser kept: the values of `data-kept` by their `data-keep`."""
        looks, lives = [self.state, self.seen], [live.component for live in self._live]

        def ticked(state: State, seen: dict[int, int], step: str, request: gr.Request) -> Any:
            return self._drawn(request, self._visitors.latest(request, state), seen, step)

        tick = {
            "fn": _typed(ticked),
            "inputs": [*looks, self._open],
            "outputs": [self.seen, *lives],
            "js": "(state, seen) => [state, seen, studio.step()]",
            **_QUICK,
        }
        for binding in self._bindings:
            event = binding.trigger(
                self._clicked(binding) if binding.event else self._called(binding),
                inputs=[*looks, *binding.inputs],
                outputs=[*looks, *binding.outputs, *lives],
                trigger_mode=binding.mode,
                js=binding.js,
                **_QUICK,
            )
            if binding.after_js:
                event.then(None, js=binding.after_js)
            for panel, render, changes in self._followed:
                if panel is binding.following:
                    follower = self._follower(render, changes)
                    event.then(follower, inputs=[self.state], outputs=[panel], **_STREAM).then(**tick)
        gr.Timer(TICK_S).tick(**tick)

        def arrived(kept: str, request: gr.Request) -> Any:
            state = arrive(_table(kept))
            first = [gr.update(value=carried(value("", state))) for _, value in self._first]
            return [state, *self._refresh(self.speaks(request), state, {}), *first]

        outputs = [*looks, *lives, *(component for component, _ in self._first)]
        load(_typed(arrived), inputs=[self._kept], outputs=outputs, js="() => [studio.kept()]", **_QUICK)

    def _drawn(self, request: gr.Request, state: State, seen: dict[int, int], step: str = "") -> list[Any]:
        """As `_refresh`; nothing where a click has changed the page meanwhile: what that one draws is newer, and this
        would put the old page over it."""
        drawn = self._refresh(self.speaks(request), state, seen, step)
        is_newest = self._visitors.latest(request, state) is state
        return drawn if is_newest else [gr.skip() for _ in drawn]

    def _refresh(self, lang: str, state: State, seen: dict[int, int], step: str = "") -> list[Any]:
        """Hashes of what the page has now, and the properties that changed.

        Of the steps only the one that is named is drawn; without a name all are.
        """
        now, updates = dict(seen), []
        for index, live in enumerate(self._live):
            if step and live.step not in ("", step):
                updates.append(gr.skip())
                continue
            properties = _properties(live.render, lang, state)
            mark = hash(repr(properties))
            same = now.get(index) == mark or not properties
            updates.append(gr.skip() if same else gr.update(**carried(properties)))
            now[index] = mark
        return [now, *updates]

    def _clicked(self, binding: _Binding) -> Callable[..., Any]:
        def clicked(state: State, seen: dict[int, int], request: gr.Request, event: gr.EventData, *values: Any) -> Any:
            data = event._data if isinstance(event._data, dict) else {}  # noqa: SLF001  gradio offers it only there
            state, *_ = self._visitors.turn(request, state, partial(_acted, binding), data, *values)
            return [state, *self._drawn(request, state, seen, str(data.get("go", "")))]

        return _typed(clicked)

    def _called(self, binding: _Binding) -> Callable[..., Any]:
        def called(state: State, seen: dict[int, int], request: gr.Request, *values: Any) -> Any:
            state, *extras = self._visitors.turn(request, state, partial(_acted, binding), *values)
            now, *updates = self._drawn(request, state, seen)
            return [state, now, *(extras or [gr.skip() for _ in binding.outputs]), *updates]

        return _typed(called)

    def _follower(self, render: Callable[[str, State], Html], changes: Callable[[], Iterator[None]]) -> Any:
        def following(state: State, request: gr.Request) -> Iterator[Html]:
            lang = self.speaks(request)
            for _ in changes():
                yield render(lang, state)

        return _typed(following)


def _of_part(part: str, render: Callable[[str, Any], T]) -> Callable[[str, State], T]:
    """The renderer of a part as one of the whole state."""
    return (lambda lang, state: render(lang, getattr(state, part))) if part else render


def _properties(render: Renderer, lang: str, state: State) -> dict[str, Any]:
    """The properties of a component; none if its renderer fails: then it stays as it is."""
    try:
        return render(lang, state)
    except Exception:
        log.exception("A part of the page could not be drawn")
        return {}


def carried(value: Any) -> Any:
    """A value that gradio can send as JSON: valid Unicode, integers of 64 bits, finite numbers."""
    if isinstance(value, str):
        return value if _is_whole(value) else type(value)(whole_text(value))
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {carried(name): carried(each) for name, each in value.items()}
    return type(value)(map(carried, value)) if type(value) in (list, tuple) else value


def _table(text: str) -> dict[str, Any]:
    """The JSON object that a browser sent; an empty one where it is none."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_whole(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _acted(binding: _Binding, state: State, *values: Any) -> tuple[Any, ...]:
    """The state after an action, and its other outputs; unexpected errors are shown, too."""
    part, extras = binding.part, []
    state = replace(state, problem=None)
    try:
        after = binding.action(getattr(state, part) if part else state, *values)
        after, *extras = after if isinstance(after, tuple) else (after,)
        state = replace(state, **{part: after}) if part else after
    except StudioError as error:
        state = replace(state, problem=error)
    except OSError as error:
        state = replace(state, problem=refused(error))
    except Exception:
        log.exception("An action broke")
        state = replace(state, problem=StudioError("ui.broken"))
    clear_caches()
    return (state, *extras)


def _typed(handler: Callable[..., Any]) -> Callable[..., Any]:
    """gradio compares the annotations of a handler with its own classes, and those of this module are strings."""
    special = {"request": gr.Request, "event": gr.EventData}
    named = inspect.signature(handler).parameters
    handler.__annotations__ = {name: kind for name, kind in special.items() if name in named}
    return handler


def _drawn(name: str, render: Callable[[str, State], Html], lang: str, state: State) -> Html:
    try:
        return render(lang, state)
    except StudioError as error:
        return problem(lang, error)
    except Exception:
        # One broken panel must not freeze the other ones; the log has what happened.
        log.exception("The panel %s could not be drawn", name)
        return problem(lang, StudioError("ui.broken"))
