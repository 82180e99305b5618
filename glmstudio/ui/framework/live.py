"""How the page stays true: every component has a renderer, and one refresh sends what changed and nothing else.

An action, a change of language and the clock all end in the same refresh. So no handler knows which other part of the
page its work shows up in, and a tick in which nothing happened moves nothing on the screen.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from glmstudio.cluster.spec import Cluster
from glmstudio.errors import StudioError, refused
from glmstudio.files import whole_text
from glmstudio.ui.framework.markup import Safe, problem
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.words import say

log = logging.getLogger(__name__)

TICK_S = 1.0
_MOST_VISITS = 200
# Quick handlers never wait behind a stream in gradio's queue, and nothing on the page flickers while they run.
_QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_STREAM: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class PageState:
    """What one browser page looks at: all that is not on disk and not shared with other pages."""

    run: str | None = None  # None: the one in progress or the newest; "": none, somebody closed it
    source: str = "sample"
    data: str = ""
    preset: str = ""
    name: str = ""
    changes: tuple[tuple[str, str], ...] = ()  # settings that differ from the preset's
    machines: tuple[tuple[str, str], ...] = ()  # as typed: address and processes of each
    meeting: tuple[tuple[str, str], ...] = ()  # as typed: port, least number, time to wait
    cluster: Cluster | None = None  # the machines, once they are right
    machines_problem: StudioError | None = None
    record: int = 0  # the conversation that is shown
    compared: tuple[str, ...] = ()  # runs laid over each other
    all_runs: bool = False  # whether the list shows older ones, too
    problem: StudioError | None = None
    settings_problem: StudioError | None = None
    form_problem: StudioError | None = None
    facts_from: int = 0  # the first row of the table of facts that is shown
    facts_find: str = ""  # what the rows that are shown have to hold
    facts_open: tuple[int, ...] = ()  # rows that show all their columns
    facts_problem: StudioError | None = None
    facts_told: tuple[str, dict[str, Any]] | None = None  # a sentence's key and values
    folder_problem: StudioError | None = None
    folder_answer: tuple[str, dict[str, str]] | None = None  # a sentence's key and values
    model_named: str = ""  # the model whose card was acted on last
    model_problem: StudioError | None = None
    chat_model: str = ""
    chat_adapter: str = ""
    chat_rival: str = "-"  # what is asked beside it; "" is the base, "-" nothing
    chat_bits: int = 16
    chat: str = ""  # the conversation that is shown; "" is the one changed last
    chat_edit: str = ""  # the turn whose question is being changed
    chat_teach: str = ""  # the turn that is being kept for training, and which of its answers
    chat_side: int = 0
    chat_told: tuple[str, dict[str, str]] | None = None
    chat_problem: StudioError | None = None


Renderer = Callable[[str, PageState], dict[str, Any]]
Action = Callable[..., Any]


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


class Visitors:
    """What each open page looks at, by gradio's mark of the visit.

    gradio hands a handler the view as it was when the click came in and keeps what the handler returns, so of two
    clicks in a row the second would undo the first. Here they take turns, and each begins where the last one ended.
    """

    def __init__(self) -> None:
        self._views: OrderedDict[str, tuple[threading.Lock, list[PageState]]] = OrderedDict()
        self._lock = threading.Lock()

    def latest(self, request: gr.Request, given: PageState) -> PageState:
        """What the page looks at now."""
        return next(iter(self._visit(request)[1]), given)

    def turn(self, request: gr.Request, given: PageState, act: Action, *values: Any) -> tuple[Any, ...]:
        """`act(view, *values)` -> (view, *more), one at a time for each page."""
        lock, kept = self._visit(request)
        with lock:
            result: tuple[Any, ...] = act(next(iter(kept), given), *values)
            kept[:] = [result[0]]
            return result

    def _visit(self, request: gr.Request) -> tuple[threading.Lock, list[PageState]]:
        mark = str(getattr(request, "session_hash", None))
        with self._lock:
            found = self._views.setdefault(mark, (threading.Lock(), []))
            self._views.move_to_end(mark)
            if len(self._views) > _MOST_VISITS:
                self._views.popitem(last=False)
            return found


@dataclass
class PageRenderer:
    """The components of one page and what keeps them true. Build inside `gr.Blocks`, then `connect`.

    `speaks` tells the language of a request: a cookie of the browser, so that it outlives this process.
    """

    speaks: Callable[[gr.Request], str]
    view: gr.State = field(default_factory=lambda: gr.State(PageState()))
    seen: gr.State = field(default_factory=lambda: gr.State({}))
    _live: list[tuple[Component, Renderer]] = field(default_factory=list)
    _bindings: list[_Binding] = field(default_factory=list)
    _followed: list[tuple[Component, Any, Any]] = field(default_factory=list)
    _visitors: Visitors = field(default_factory=Visitors)

    def live(self, component: Any, render: Renderer) -> Any:
        """Keep the properties of `component` as `render(lang, view)` says."""
        self._live.append((component, render))
        return component

    def words(self, component: Any, **keys: str) -> Any:
        """Keep properties of `component` at sentences of the words files."""
        return self.live(component, lambda lang, _: {name: say(lang, key) for name, key in keys.items()})

    def panel(
        self,
        name: str,
        render: Callable[[str, PageState], Safe],
        act: Action | None = None,
        inputs: Sequence[Component] = (),
    ) -> gr.HTML:
        """A place for own HTML; its buttons call `act(view, data, *inputs)` -> view, or (view, new language)."""
        made = gr.HTML(
            "",
            html_template='<div class="gs-slot"></div>',
            js_on_load='studio.panel(element, (data) => trigger("act", data), watch, props);',
            apply_default_css=False,
            elem_id=f"panel-{name}",
        )
        self._live.append((made, lambda lang, view: {"value": _drawn(name, render, lang, view)}))
        if act:
            self._bindings.append(_Binding(made.act, act, inputs, event=True, following=made))
        return made

    def follow(
        self, panel: gr.HTML, render: Callable[[str, PageState], Safe], changes: Callable[[], Iterator[None]]
    ) -> None:
        """After an action that names `panel` in `following`, redraw it at each of `changes()`, not once a second."""
        self._followed.append((panel, render, changes))

    def on(
        self,
        trigger: Callable[..., Any],
        action: Action,
        inputs: Sequence[Component] = (),
        outputs: Sequence[Component] = (),
        **options: Any,
    ) -> None:
        """Call `action(view, *inputs)` -> view, or (view, *outputs), and refresh the page."""
        self._bindings.append(_Binding(trigger, action, inputs, outputs, **options))

    def connect(self, arrive: Callable[[], PageState], load: Callable[..., Any]) -> None:
        """Wire all that was registered, the clock, and the arrival of a browser, whose view `arrive` makes."""
        looks, lives = [self.view, self.seen], [component for component, _ in self._live]
        tick = _typed(
            lambda view, seen, request: self._refresh(self.speaks(request), self._visitors.latest(request, view), seen)
        )
        for binding in self._bindings:
            event = binding.trigger(
                self._clicked(binding.action) if binding.event else self._called(binding),
                inputs=[*looks, *binding.inputs],
                outputs=[*looks, *binding.outputs, *lives],
                trigger_mode=binding.mode,
                js=binding.js,
                **_QUICK,
            )
            for panel, render, changes in self._followed:
                if panel is binding.following:
                    event.then(self._follower(render, changes), inputs=[self.view], outputs=[panel], **_STREAM).then(
                        tick, inputs=looks, outputs=[self.seen, *lives], **_QUICK
                    )
        gr.Timer(TICK_S).tick(tick, inputs=looks, outputs=[self.seen, *lives], **_QUICK)

        def arrived(request: gr.Request) -> Any:
            view = arrive()
            return [view, *self._refresh(self.speaks(request), view, {})]

        load(_typed(arrived), outputs=[*looks, *lives], **_QUICK)

    def _refresh(self, lang: str, view: PageState, seen: dict[int, int]) -> list[Any]:
        """What the page has after this, and the properties that differ from what it had."""
        now, updates = dict(seen), []
        for index, (_, render) in enumerate(self._live):
            properties = _properties(render, lang, view)
            mark = hash(repr(properties))
            same = now.get(index) == mark or not properties
            updates.append(gr.skip() if same else gr.update(**carried(properties)))
            now[index] = mark
        return [now, *updates]

    def _clicked(self, action: Action) -> Callable[..., Any]:
        def clicked(
            view: PageState, seen: dict[int, int], request: gr.Request, event: gr.EventData, *values: Any
        ) -> Any:
            data = event._data  # noqa: SLF001  gradio offers the whole only there
            acted = partial(_acted, action)
            view, *_ = self._visitors.turn(request, view, acted, data if isinstance(data, dict) else {}, *values)
            return [view, *self._refresh(self.speaks(request), view, seen)]

        return _typed(clicked)

    def _called(self, binding: _Binding) -> Callable[..., Any]:
        def called(view: PageState, seen: dict[int, int], request: gr.Request, *values: Any) -> Any:
            view, *extras = self._visitors.turn(request, view, partial(_acted, binding.action), *values)
            now, *updates = self._refresh(self.speaks(request), view, seen)
            return [view, now, *(extras or [gr.skip() for _ in binding.outputs]), *updates]

        return _typed(called)

    def _follower(self, render: Callable[[str, PageState], Safe], changes: Callable[[], Iterator[None]]) -> Any:
        def following(view: PageState, request: gr.Request) -> Iterator[Safe]:
            lang = self.speaks(request)
            for _ in changes():
                yield render(lang, view)

        return _typed(following)


def _properties(render: Renderer, lang: str, view: PageState) -> dict[str, Any]:
    """What a component is to be; nothing where its renderer broke: it keeps what it had, and the others go on."""
    try:
        return render(lang, view)
    except Exception:
        log.exception("A part of the page could not be drawn")
        return {}


def carried(value: Any) -> Any:
    """A value that gradio's JSON can carry: whole characters, numbers of 64 bits."""
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


def _is_whole(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _acted(action: Action, view: PageState, *values: Any) -> tuple[Any, ...]:
    """The view after an action, and what it gives besides; a failure that it did not expect is shown, too."""
    try:
        result = action(replace(view, problem=None), *values)
    except StudioError as error:
        result = replace(view, problem=error)
    except OSError as error:
        result = replace(view, problem=refused(error))
    except Exception:
        log.exception("An action broke")
        result = replace(view, problem=StudioError("ui.broken"))
    clear_caches()
    return result if isinstance(result, tuple) else (result,)


def _typed(handler: Callable[..., Any]) -> Callable[..., Any]:
    """gradio compares the annotations of a handler with its own classes, and those of this module are strings."""
    special = {"request": gr.Request, "event": gr.EventData}
    named = inspect.signature(handler).parameters
    handler.__annotations__ = {name: kind for name, kind in special.items() if name in named}
    return handler


def _drawn(name: str, render: Callable[[str, PageState], Safe], lang: str, view: PageState) -> Safe:
    try:
        return render(lang, view)
    except StudioError as error:
        return problem(lang, error)
    except Exception:
        # One broken panel must not freeze the other ones; the log has what happened.
        log.exception("The panel %s could not be drawn", name)
        return problem(lang, StudioError("ui.broken"))
