"""The page's parts without a browser: words, escaping, charts, the guard, the environment, and two clicks at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from glmstudio.access.guard import Guard
from glmstudio.chat.conversation import Answer, Call, Conversation
from glmstudio.errors import StudioError
from glmstudio.models import Model
from glmstudio.models.catalogue import Entry
from glmstudio.models.inventory import InventoryItem
from glmstudio.models.jobs import ModelJob
from glmstudio.ui.chat import chat_log
from glmstudio.ui.doctor import stale_view
from glmstudio.ui.framework import live, markup
from glmstudio.ui.framework.charts import Series, chart, sparkline, thin
from glmstudio.ui.framework.markdown import formatted
from glmstudio.ui.model.model_cards import card
from glmstudio.ui.shell.page import language
from glmstudio.ui.shell.quiet_import import quiet_import
from glmstudio.ui.state.checkup import CheckupState
from glmstudio.ui.state.conversations import OpenConversation
from glmstudio.ui.state.page_state import ChatState, ModelState, PageState
from glmstudio.units import literal
from glmstudio.words import has, words
from tests.hostile_text import HOSTILE, harmless
from tests.waiting import until

UI = Path(markup.__file__).parents[1]


def test_the_page_is_built_without_torch() -> None:
    code = (
        "import sys; from glmstudio.ui.shell.quiet_import import quiet_import\n"
        "with quiet_import():\n    from glmstudio.ui.shell.page import build_page\n    build_page()\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'modelscope') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=UI.parents[1])

    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_every_sentence_is_used_and_every_used_one_exists() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in UI.rglob("*.py"))
    used = set(re.findall(r"[\"'](ui\.[a-z0-9_.]+)[\"']", source))
    families = set(re.findall(r"[\"'](ui\.[a-z0-9_.]+[_.])\{", source))

    assert {key for key in used if not has(key) and not has(f"{key}.what")} == set()
    assert {prefix for prefix in families if not any(key.startswith(prefix) for key in words("en"))} == set()
    known = {key.removesuffix(".what").removesuffix(".fix") for key in words("en") if key.startswith("ui.")}
    assert {key for key in known if key not in used and not key.startswith(tuple(families))} == set()


def test_templates_escape_all_but_templates() -> None:
    inner = markup.tag("<b>{text}</b>", text=HOSTILE)
    outer = markup.tag('<i title="{title}">{inner}{several}</i>', title=HOSTILE, inner=inner, several=[inner, HOSTILE])

    assert harmless(outer)
    assert outer.count("<b>") == 2
    assert markup.tag("{nothing}", nothing=None) == ""


@pytest.mark.parametrize(("lang", "title"), [("en", "Thought before the answer"), ("zh", "回答前的思考")])
def test_a_thought_is_folded_above_its_answer(lang: str, title: str) -> None:
    conversation = Conversation()
    conversation.ask("Q", None).answers = [Answer("m", parts=["<think>\nwhy\n</think>\n\nNo.", "<think>\nstill"])]
    page = str(chat_log.render_log(lang, ChatState(), OpenConversation(conversation, threading.Condition()), {}))
    folded = [each.split("</details>") for each in page.split('<details class="gs-thought"')[1:]]
    assert [
        f"<summary>{title}</summary><div>{text}</div>" in each[0]
        for each, text in zip(folded, ("why", "still"), strict=True)
    ] == [True, True]
    assert "No." in folded[0][1]
    assert "gs-model-says" not in folded[1][1]
    assert "think" not in page


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_hostile_text_stays_text_wherever_it_is_shown(lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Conversation(title=HOSTILE)
    conversation.ask(HOSTILE, None).answers = [
        Answer(
            HOSTILE,
            HOSTILE,
            [
                HOSTILE,
                f"<think>{HOSTILE}</think>{HOSTILE}",
                f"```{HOSTILE}\n{HOSTILE}\n```",
                Call(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, state),
            ],
        )
        for state in ("asked", HOSTILE)
    ]
    conversation.ask(HOSTILE, conversation.tip).answers = [
        Answer(
            HOSTILE,
            messages=[{"role": "assistant", "content": HOSTILE}],
            problem=StudioError("chat.refused", reason=HOSTILE),
        )
    ]
    opened = OpenConversation(conversation, threading.Condition())
    process = SimpleNamespace(
        token=HOSTILE,
        ticked=True,
        identity=SimpleNamespace(pid=1),
        idle=True,
        command=HOSTILE,
        age_s=1.0,
        why=lambda lang: HOSTILE,
        facts=lambda lang: HOSTILE,
        user=HOSTILE,
        busy=True,
        silent_s=5.0,
        gpu_mib=5,
    )
    entry = Entry(HOSTILE, HOSTILE, HOSTILE, HOSTILE, licence=HOSTILE)
    job = ModelJob("download", HOSTILE, Path(HOSTILE), "running", files=((HOSTILE, 1, 2),), done=1, total=2)
    model = Model(HOSTILE, HOSTILE, Path(HOSTILE), "chatglm3", 5, StudioError("models.no_folder", folder=HOSTILE))
    for status in ("absent", "downloading", "stopped", "broken", "unverified", "ready"):
        item = InventoryItem(HOSTILE, HOSTILE, Path(HOSTILE), status, entry, model, job)
        assert harmless(card(lang, item, ModelState(HOSTILE), used=False))
    for chat in (ChatState(), ChatState(edited=str(conversation.tip)), ChatState(taught=str(conversation.tip))):
        assert harmless(chat_log.render_log(lang, chat, opened, {}))
    assert harmless(stale_view.render_stale(lang, CheckupState(), (process,)))  # type: ignore[arg-type]
    assert harmless(markup.problem(lang, StudioError("ui.finetune.no_file", path=HOSTILE)))
    assert harmless(markup.terminal(lang, HOSTILE, key=HOSTILE))
    assert harmless(markup.button("x", HOSTILE, value=HOSTILE))
    assert harmless(chart(lang, [Series(HOSTILE, [(1, 2.0), (2, 1.0)])], label=HOSTILE, x_label=HOSTILE))


def test_model_text_keeps_its_code_and_paragraphs() -> None:
    text = "One **two** `a<b`\n\n```python\nprint(1)\n```\nThree\nfour\n\n- five"

    assert formatted("en", text) == (
        "<p>One <strong>two</strong> <code>a&lt;b</code></p>\n"
        '<div class="gs-code"><pre><code>print(1)\n</code></pre><button type="button" class="gs-button gs-look-quiet"'
        ' data-copy data-done="Copied">Copy</button></div>'
        "<p>Three<br />\nfour</p>\n<ul>\n<li>five</li>\n</ul>\n"
    )


@pytest.mark.parametrize(
    ("headers", "trusted"),
    [
        ({"host": "127.0.0.1:7860"}, True),
        ({"host": "localhost:7860", "origin": "http://localhost:7860"}, True),
        ({"host": "LOCALHOST:7860"}, True),
        ({"host": "127.0.0.1:9000"}, True),  # the other end of ssh -L 9000:127.0.0.1:7860
        ({"host": "localhost:9000", "origin": "http://localhost:9000"}, True),
        ({"host": "[::1]:9000", "origin": "http://[::1]:9000"}, True),
        ({"host": "localhost", "origin": "http://localhost"}, True),
        ({}, False),
        ({"host": ""}, False),
        ({"host": "127.0.0.1:0"}, False),
        ({"host": "127.0.0.1:"}, False),
        ({"host": "127.0.0.1:65536"}, False),
        ({"host": "127.0.0.1:9000@evil.example"}, False),
        ({"host": "127.0.0.1:9000\n"}, False),
        ({"host": "127.0.0.1.evil.example:7860"}, False),
        ({"host": "evil.localhost:7860"}, False),
        ({"host": "localhost.:7860"}, False),
        ({"host": "::1"}, False),
        ({"host": "127.0.0.2:7860"}, False),
        ({"host": "evil.example:7860", "origin": "http://evil.example:7860"}, False),
        ({"host": "localhost:7860", "origin": "null"}, False),
        ({"host": "localhost:7860", "origin": ""}, False),
        ({"host": "localhost:7860", "origin": "https://localhost:7860"}, False),
        ({"host": "localhost:7860", "origin": "http://127.0.0.1:7860"}, False),
        ({"host": "localhost:9000", "origin": "http://localhost:7860"}, False),
        ({"host": "localhost:9000", "origin": "http://evil.example"}, False),
        ({"host": "localhost:9000", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, False),
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:3000"}, False),
        ({"host": "127.0.0.1:7860", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, True),
        ({"host": "127.0.0.1:7860", "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, False),
    ],
)
def test_the_guard_trusts_only_the_studios_own_page(headers: dict[str, str], trusted: bool) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]

    assert Guard(lambda *_: None, 7860).trusts(raw) is trusted  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("name", [b"host", b"origin"])
def test_two_host_or_origin_headers_are_one_too_many(name: bytes) -> None:
    value = b"127.0.0.1:7860" if name == b"host" else b"http://127.0.0.1:7860"
    raw = [*({(b"host", b"127.0.0.1:7860"), (name, value)}), (name.upper(), value)]

    assert Guard(lambda *_: None, 7860).trusts(raw) is False  # type: ignore[arg-type, return-value]


def test_the_environment_is_quiet_during_the_import_and_whole_afterwards() -> None:
    environ = {"ALL_PROXY": "socks5://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9", "no_proxy": "example.org"}
    with quiet_import(environ):
        assert "ALL_PROXY" not in environ
        assert environ["all_proxy"] == "http://127.0.0.1:9"
        assert environ["HF_HUB_OFFLINE"] == "1"
    assert environ == {
        "ALL_PROXY": "socks5://127.0.0.1:9",
        "all_proxy": "http://127.0.0.1:9",
        "no_proxy": "example.org,localhost,127.0.0.1,::1",
        "NO_PROXY": "localhost,127.0.0.1,::1",
        "GRADIO_ANALYTICS_ENABLED": "False",
    }


@pytest.mark.parametrize(
    ("remembered", "accepted", "spoken"),
    [
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "de-DE,de;q=0.9,en;q=0.8,zh;q=0.7", "en"),
        (None, "en;q=0.4,zh-TW;q=0.7", "zh"),
        (None, "fr", "en"),
        (None, None, "en"),
        (None, "zh;q=x", "zh"),
        ("en", "zh-CN", "en"),
        ("<script>", "zh-CN", "zh"),
    ],
)
def test_the_first_language(remembered: str | None, accepted: str | None, spoken: str) -> None:
    assert language(remembered, accepted) == spoken


def lines(points: list[tuple[float, float]]) -> list[Any]:
    """What the browser is given to draw."""
    html = chart("en", [Series("loss", points)], label="loss", x_label="step")
    found = re.search(r'data-chart="([^"]*)"', html)
    return json.loads(unescape(found[1]))["lines"] if found else []


def test_charts_draw_what_is_finite_and_keep_both_ends() -> None:
    points = [(float(step), 1.0 / step) for step in range(1, 5001)]

    assert thin(points, 100)[0] == points[0]
    assert thin(points, 100)[-1] == points[-1]
    assert len(thin(points, 100)) <= 101
    assert lines([(1, 1.0), (2, float("nan")), (3, 0.5)]) == [["loss", "noisy", [1, 3], [1.0, 0.5]]]
    assert lines([(1, 1.0)]) == []
    assert "<path" not in sparkline([], label="loss")
    assert "<path" in sparkline([(1, 2.0), (2, 2.0)], label="loss")
    assert len(lines(points)[0][2]) <= 601
    assert lines(points)[0][2][-1] == 5000


def test_an_action_that_breaks_says_so_and_changes_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def breaks(chat: ChatState) -> ChatState:
        raise ZeroDivisionError

    before = PageState(chat=ChatState("kept"))
    (state,) = live._acted(live.Binding(print, breaks, [], part="chat"), before)

    assert state == replace(before, problem=state.problem)
    assert state.problem is not None
    assert state.problem.key == "ui.broken"
    assert "ZeroDivisionError" in caplog.text
    taken = live.Binding(print, lambda chat: (replace(chat, adapter="one"), "extra"), [], part="chat")
    assert live._acted(taken, state) == (PageState(chat=ChatState("kept", "one")), "extra")


def test_a_name_is_never_read_as_one_of_gradios_words() -> None:
    assert literal("file") != "file"
    assert literal("common.submit") != "common.submit"
    assert literal("first-try") == "first-try"
    assert literal("客服") == "客服"


def test_commands_in_a_remedy_can_be_copied() -> None:
    html = markup.commands("en", "Close it and run `python launcher.py --torch auto`, or set `x`.", key="k")

    assert html.count("data-copy") == 1
    assert "<code>python launcher.py --torch auto</code>" in html
    assert markup.prose("set `<b>` now") == "set <code>&lt;b&gt;</code> now"


def test_a_click_during_a_checkup_waits_and_a_second_one_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from glmstudio.ui.state import checkup

    gate, looks, ends = threading.Event(), [], []

    def look(**_: Any) -> Any:
        looks.append(len(ends))
        gate.wait(10)
        return SimpleNamespace(gpus=(), stale=(), findings=[])

    monkeypatch.setattr(checkup, "diagnose", look)
    monkeypatch.setattr(checkup, "undoable", list)
    monkeypatch.setattr(checkup, "entries", list)
    monkeypatch.setattr(checkup, "end_stale", lambda tokens, **_: ends.append(tokens) or [])
    made = checkup.Checkup()
    made.start()
    for _ in range(3):
        made.end(["token"])
    made.start()
    gate.set()
    until(lambda: ends and not made.state.running)
    assert ends == [["token"]]
    assert looks == [0, 1]


def test_a_tick_draws_the_open_step_and_a_click_every_one() -> None:
    drawn: list[str] = []

    with gr.Blocks():
        page = live.PageRenderer(lambda _: "en", PageState(chat=ChatState("demo")))
        page.panel("rail", lambda lang, state: drawn.append("rail") or markup.Html("rail"))
        with page.step("doctor"):
            page.panel("checks", lambda lang, state: drawn.append("doctor") or markup.Html("doctor"))
        with page.step("chat", part="chat"):
            page.panel("log", lambda lang, chat: drawn.append(f"chat {chat.model}") or markup.Html(chat.model))

    seen, *_ = page._refresh("en", page.first, {})
    assert drawn == ["rail", "doctor", "chat demo"]
    drawn.clear()
    changed = replace(page.first, chat=ChatState("other"))
    seen, *hidden = page._refresh("en", changed, seen, "doctor")
    assert (drawn, [each.get("value") for each in hidden]) == (["rail", "doctor"], [None] * 3)
    _, *opened = page._refresh("en", changed, seen, "chat")
    assert [each.get("value") for each in opened] == [None, None, "other"], "what changed meanwhile is there at once"


def test_a_page_is_asked_to_refresh_only_where_something_changed() -> None:
    shown = {"rail": "one", "doctor": "calm", "chat": "quiet"}

    with gr.Blocks():
        page = live.PageRenderer(lambda _: "en", PageState())
        page.panel("rail", lambda lang, _: markup.Html(f"{lang} {shown['rail']}"))
        for step in ("doctor", "chat"):
            with page.step(step):
                page.panel(step, lambda lang, _, step=step: markup.Html(shown[step]))

    def changed(step: str, lang: str = "en") -> bool:
        return page.has_changed(lang, "visit", step)

    request: Any = SimpleNamespace(session_hash="visit")
    assert changed("doctor"), "this process has not drawn it: it was restarted"
    assert not page.has_changed("en", "", "doctor"), "a page that has not arrived yet"
    page._sent(request, page.first)
    assert not changed("doctor")
    assert changed("doctor", "zh")
    shown["chat"] = "busy"
    assert not changed("doctor"), "a step that nobody sees"
    assert changed("chat")
    shown["rail"] = "two"
    assert changed("doctor")
    page._sent(request, page.first, "chat")
    assert not changed("chat")


def test_what_was_drawn_before_a_click_never_covers_what_the_click_shows() -> None:
    request: Any = SimpleNamespace(session_hash="one", cookies={}, headers={})
    clicks = [lambda state: (replace(state, chat=ChatState("new")),)]

    def slowly(_: str, state: PageState) -> markup.Html:
        while clicks:  # the click comes while the tick is at work
            page._visitors.turn(request, state, clicks.pop())
        return markup.Html(state.chat.model)

    with gr.Blocks():
        page = live.PageRenderer(lambda _: "en", PageState(chat=ChatState("old")))
        page.panel("log", slowly)
    stale = page._sent(request, page._visitors.latest(request, page.first))
    (fresh,) = page._sent(request, page._visitors.latest(request, page.first))

    assert [each.get("value") for each in stale] == [None]
    assert fresh["value"] == "new"
