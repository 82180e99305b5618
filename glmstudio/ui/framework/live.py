"""How the page stays up to date: every component has a renderer, and a refresh sends only what changed.

An action, a change of language and the clock all end in the same refresh. So no handler knows which other part of the
page its work shows up in, and a tick in which nothing happened moves nothing on the screen.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import gradio as gr
from gradio.components import Component

from glmstudio.errors import StudioError, refused
from glmstudio.ui.framework.markup import Html, problem
from glmstudio.ui.framework.registered import Action, Binding, Live, Renderer
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.framework.visitors import State, Visitors
from glmstudio.ui.framework.wire import carried, table_of
from glmstudio.words import say

log = logging.getLogger(__name__)

T = TypeVar("T")

# Quick handlers never wait behind a stream in gradio's queue, and nothing on the page flickers while they run.
_QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_STREAM: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


@dataclass
class PageRenderer:
    """The components of one page and their renderers. Build inside `gr.Blocks`, then `connect`.

    `speaks` tells the language of a request: a cookie of the browser, so that it outlives this process. `first` is the
    state of a page before a browser has arrived: a frozen dataclass with a field `problem`, and a field for each part
    that renderers and actions are registered for.
    """

    speaks: Callable[[gr.Request], str]
    first: State
    _live: list[Live] = field(default_factory=list)
    _bindings: list[Binding] = field(default_factory=list)
    _first: list[tuple[Component, Callable[[str, Any], Any]]] = field(default_factory=list)
    _followed: list[tuple[Component, Any, Any]] = field(default_factory=list)
    _visitors: Visitors = field(default_factory=Visitors)
    _step: str = ""
    _part: str = ""

    def __post_init__(self) -> None:
        self.state = gr.State(self.first)
        self._clock = gr.HTML(
            "",
            html_template="<div hidden></div>",
            js_on_load='studio.clock(() => trigger("beat", {}), watch, props);',
            apply_default_css=False,
            elem_id="gs-clock",
        )
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
        self._live.append(Live(component, _of_part(self._part, render), self._step))
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
        self._bindings.append(Binding(trigger, action, inputs, outputs, part=part, **options))

    def connect(self, arrive: Callable[[dict[str, Any]], State], load: Callable[..., Any]) -> None:
        """Wire everything registered, the clock, and the arrival of a browser, whose state `arrive` makes of what the
        browser kept: the values of `data-kept` by their `data-keep`."""
        lives = [live.component for live in self._live]

        def ticked(state: State, step: str, request: gr.Request) -> Any:
            return self._sent(request, self._visitors.latest(request, state), step)

        tick = {
            "fn": _typed(ticked),
            "inputs": [self.state, self._open],
            "outputs": lives,
            "js": "(state) => [state, studio.step()]",
            **_QUICK,
        }
        for binding in self._bindings:
            event = binding.trigger(
                self._clicked(binding) if binding.event else self._called(binding),
                inputs=[self.state, *binding.inputs],
                outputs=[self.state, *binding.outputs, *lives],
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
        self._clock.beat(**tick)

        self._welcome(arrive, load, lives)

    def _welcome(
        self, arrive: Callable[[dict[str, Any]], State], load: Callable[..., Any], lives: list[Component]
    ) -> None:
        """Wire the arrival of a browser."""

        def arrived(kept: str, request: gr.Request) -> Any:
            state, *_ = self._visitors.turn(request, self.first, lambda _: (arrive(table_of(kept)),))
            self._visitors.visit(request).seen = {}
            first = [gr.update(value=carried(value("", state))) for _, value in self._first]
            return [state, request.session_hash, *self._sent(request, state), *first]

        outputs = [self.state, self._clock, *lives, *(component for component, _ in self._first)]
        load(_typed(arrived), inputs=[self._kept], outputs=outputs, js="() => [studio.kept()]", **_QUICK)

    def has_changed(self, lang: str, mark: str, step: str) -> bool:
        """Whether a refresh would move anything on the page of the session `mark`.

        gradio rebuilds every component that a refresh leaves alone; so it is asked for one only where this says yes.
        """
        visit = self._visitors.known(mark)
        if visit is None:
            return bool(mark)
        state = next(iter(visit.states), self.first)
        drawn = (
            (at, _properties(live.render, lang, state)) for at, live in enumerate(self._live) if _is_open(live, step)
        )
        return any(made and visit.seen.get(at) != hash(repr(made)) for at, made in drawn)

    def _sent(self, request: gr.Request, state: State, step: str = "") -> list[Any]:
        """What a page is sent: the properties that changed since it was sent some last; nothing where a click has
        changed it meanwhile: what that one draws is newer, and this would put the old page over it."""
        visit = self._visitors.visit(request)
        with visit.drawing:
            seen, *updates = self._refresh(self.speaks(request), state, visit.seen, step)
            if next(iter(visit.states), state) is not state:
                return [gr.skip() for _ in updates]
            visit.seen = seen
        return updates

    def _refresh(self, lang: str, state: State, seen: dict[int, int], step: str = "") -> list[Any]:
        """Hashes of what the page has now, and the properties that changed.

        Of the steps only the one that is named is drawn; without a name all are.
        """
        now, updates = dict(seen), []
        for index, live in enumerate(self._live):
            if not _is_open(live, step):
                updates.append(gr.skip())
                continue
            properties = _properties(live.render, lang, state)
            mark = hash(repr(properties))
            same = now.get(index) == mark or not properties
            updates.append(gr.skip() if same else gr.update(**carried(properties)))
            now[index] = mark
        return [now, *updates]

    def _clicked(self, binding: Binding) -> Callable[..., Any]:
        def clicked(state: State, request: gr.Request, event: gr.EventData, *values: Any) -> Any:
            data = event._data if isinstance(event._data, dict) else {}  # noqa: SLF001  gradio offers it only there
            state, *_ = self._visitors.turn(request, state, partial(_acted, binding), data, *values)
            return [state, *self._sent(request, state, str(data.get("go", "")))]

        return _typed(clicked)

    def _called(self, binding: Binding) -> Callable[..., Any]:
        def called(state: State, request: gr.Request, *values: Any) -> Any:
            state, *extras = self._visitors.turn(request, state, partial(_acted, binding), *values)
            updates = self._sent(request, state)
            return [state, *(extras or [gr.skip() for _ in binding.outputs]), *updates]

        return _typed(called)

    def _follower(self, render: Callable[[str, State], Html], changes: Callable[[], Iterator[None]]) -> Any:
        def following(state: State, request: gr.Request) -> Iterator[Html]:
            lang = self.speaks(request)
            for _ in changes():
                yield render(lang, state)

        return _typed(following)


def _is_open(live: Live, step: str) -> bool:
    """Whether it is drawn while that step is open; "" is all of them."""
    return not step or live.step in ("", step)


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


def _acted(binding: Binding, state: State, *values: Any) -> tuple[Any, ...]:
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
