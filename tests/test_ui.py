"""The page's parts without a browser: words, escaping, charts, the guard, the environment, and two clicks at once."""

from __future__ import annotations

import json
import re
import string
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glmstudio.errors import StudioError
from glmstudio.guard import Guard
from glmstudio.models import Model
from glmstudio.models.catalogue import Entry
from glmstudio.models.jobs import Job
from glmstudio.models.shelf import Item
from glmstudio.ui import chat_view, doctor_stale, finetune, live, markup, runs_view, runwatch
from glmstudio.ui.charts import curve, sparkline, thin
from glmstudio.ui.conversation import Call, Conversation, Turn
from glmstudio.ui.environment import quiet_import
from glmstudio.ui.live import View
from glmstudio.ui.model_cards import card
from glmstudio.ui.page import language
from glmstudio.ui.runwatch import Reading, Watch
from glmstudio.ui.snapshot import forget
from glmstudio.units import literal
from glmstudio.words import has, words

UI = Path(markup.__file__).parent
HOSTILE = '<img src=x onerror=alert(1)>"\' onmouseover="x {{7*7}} ${alert(1)} `x` </script><script>'


def harmless(html: str) -> bool:
    """Whether no part of HOSTILE is left that a browser or gradio's templates would read."""
    return not re.search(r"<img|<script|</script|\{\{7|\$\{|\" onmouseover|`", html)


def test_the_page_is_built_without_torch() -> None:
    code = (
        "import sys; from glmstudio.ui.environment import quiet_import\n"
        "with quiet_import():\n    from glmstudio.ui.page import build_page\n    build_page()\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'modelscope') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=UI.parents[1])

    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_both_languages_say_the_same_things() -> None:
    english, chinese = words("en"), words("zh")

    def placeholders(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    mine = {key for key in english if key.startswith("ui.")}
    assert mine == {key for key in chinese if key.startswith("ui.")}
    assert {key for key in mine if placeholders(english[key]) != placeholders(chinese[key])} == set()
    assert {key for key in mine if not chinese[key].strip()} == set()


def test_every_sentence_is_used_and_every_used_one_exists() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in UI.glob("*.py"))
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


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_hostile_text_stays_text_wherever_it_is_shown(lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turn(HOSTILE, [HOSTILE, f"```{HOSTILE}\n{HOSTILE}\n```", Call("1", HOSTILE, {HOSTILE: HOSTILE}, HOSTILE)])
    conversation = Conversation()
    conversation.turns = [turn]
    process = SimpleNamespace(
        token=HOSTILE,
        ticked=True,
        identity=SimpleNamespace(pid=1),
        command=HOSTILE,
        age_s=1.0,
        why=lambda lang: HOSTILE,
        user=HOSTILE,
        busy=True,
        silent_s=5.0,
        gpu_mib=5,
    )
    state = runwatch.RunState("failed", 1, 2, problem=StudioError("ui.finetune.no_file", path=HOSTILE), started=1.0)
    run = SimpleNamespace(name=HOSTILE, path=HOSTILE, metrics=lambda offset: ([], 0), log=lambda offset: (HOSTILE, 1))
    known = runwatch.Known(run, state, HOSTILE, HOSTILE, HOSTILE, has_result=True)  # type: ignore[arg-type]
    monkeypatch.setattr(runs_view, "newest_first", lambda: [known])
    view = View(run=HOSTILE)

    entry = Entry(HOSTILE, HOSTILE, HOSTILE, HOSTILE, licence=HOSTILE)
    job = Job("download", HOSTILE, Path(HOSTILE), "running", files=((HOSTILE, 1, 2),), done=1, total=2)
    model = Model(HOSTILE, HOSTILE, Path(HOSTILE), "chatglm3", 5, StudioError("models.no_folder", folder=HOSTILE))
    for status in ("absent", "downloading", "stopped", "broken", "unverified", "ready"):
        item = Item(HOSTILE, HOSTILE, Path(HOSTILE), status, entry, model, job)
        assert harmless(card(lang, item, view, used=False))
    assert harmless(chat_view.render_log(lang, conversation, ready=True))
    assert harmless(doctor_stale.render_stale(lang, (process,)))  # type: ignore[arg-type]
    assert harmless(runs_view.render_list(lang, view))
    assert harmless(runs_view.render_open(lang, view))
    assert harmless(markup.problem(lang, StudioError("ui.finetune.no_file", path=HOSTILE)))
    assert harmless(markup.terminal(lang, HOSTILE, key=HOSTILE))
    assert harmless(markup.button("x", HOSTILE, value=HOSTILE))
    assert harmless(curve([(1, 2.0), (2, 1.0)], label=HOSTILE, x_label=HOSTILE))


def test_model_text_keeps_its_code_and_paragraphs() -> None:
    text = "One **two** `a<b`\n\n```python\nprint(1)\n```\nThree"

    assert chat_view.formatted(text) == (
        "<p>One <strong>two</strong> <code>a&lt;b</code></p><pre>print(1)</pre><p>Three</p>"
    )
    assert chat_view.formatted("```\nunfinished") == "<pre>unfinished</pre>"


@pytest.mark.parametrize(
    ("headers", "trusted"),
    [
        ({"host": "127.0.0.1:7860"}, True),
        ({"host": "localhost:7860", "origin": "http://localhost:7860"}, True),
        ({"host": "LOCALHOST:7860"}, True),
        ({}, False),
        ({"host": "localhost:7861"}, False),
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:3000"}, False),
        ({"host": "127.0.0.1:7860", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, True),
        ({"host": "127.0.0.1:7860", "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, False),
    ],
)
def test_the_guard_trusts_only_the_studios_own_page(headers: dict[str, str], trusted: bool) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]

    assert Guard(lambda *_: None, 7860).trusts(raw) is trusted  # type: ignore[arg-type, return-value]


def test_two_host_headers_are_one_too_many() -> None:
    raw = [(b"host", b"127.0.0.1:7860"), (b"Host", b"evil.example")]

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


def test_charts_draw_what_is_finite_and_keep_both_ends() -> None:
    points = [(float(step), 1.0 / step) for step in range(1, 5001)]

    assert thin(points, 100)[0] == points[0]
    assert thin(points, 100)[-1] == points[-1]
    assert len(thin(points, 100)) <= 101
    assert "nan" not in curve([(1, 1.0), (2, float("nan")), (3, 0.5)], label="loss", x_label="step")
    assert curve([(1, 1.0)], label="loss", x_label="step") == ""
    assert "<path" not in sparkline([], label="loss")
    assert "<path" in curve([(1, 2.0), (2, 2.0)], label="loss", x_label="step")


def test_a_run_is_read_on_from_where_the_last_look_ended() -> None:
    rows: list[dict[str, Any]] = []
    text = ""
    offsets: list[tuple[int, int]] = []

    def metrics(offset: int) -> tuple[list[dict[str, Any]], int]:
        return rows[offset:], len(rows)

    def log(offset: int) -> tuple[str, int]:
        offsets.append((offset, len(text)))
        return text[offset:], len(text)

    run, reading = SimpleNamespace(metrics=metrics, log=log), Reading()
    for _ in range(3):
        rows.append({"step": len(rows) + 1, "loss": 1.0})
        text += "10 %\r20 %\nhalf"
        reading.advance(run)  # type: ignore[arg-type]
        reading.advance_log(run)  # type: ignore[arg-type]

    assert [step for step, _ in reading.points] == [1, 2, 3]
    assert reading.log_tail() == "20 %\n20 %\n20 %\nhalf"
    assert offsets == [(0, 14), (14, 28), (28, 42)]


def test_a_stop_that_breaks_is_told_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(run: Any, *, now: bool) -> Any:
        yield "runs.stage.asked"
        raise StudioError("ui.finetune.no_data")

    monkeypatch.setattr(runwatch, "stop_run", refuses)
    watch = Watch()
    watch.stop(SimpleNamespace(name="a"), now=False)  # type: ignore[arg-type]

    wait_until(lambda: watch.stage("a") is None)
    assert (
        str(watch.stop_problem("a")) == "No data file has been chosen. Enter its path, upload it, or take the sample."
    )


def test_two_clicks_at_once_start_one_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def slow_start(preset: Any, *, data: Any, name: Any, changes: Any) -> Any:
        started.append(preset.name)
        time.sleep(0.1)
        return SimpleNamespace(name=f"run-{len(started)}")

    monkeypatch.setattr(finetune, "start_run", slow_start)
    forget()
    view, after = View(ticket=finetune.new_ticket()), []
    clicks = [
        threading.Thread(
            target=lambda: after.append(finetune.start_from_form(view, "sample", "", "demo/ptuning_v2", "", False))
        )
        for _ in range(2)
    ]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()

    assert started == ["demo/ptuning_v2"]
    assert [one.run for one in after] == ["run-1", "run-1"]
    assert [one.form_problem for one in after] == [None, None]


@pytest.mark.parametrize(
    ("source", "data", "said"),
    [
        ("file", "  ", "No data file has been chosen. Enter its path, upload it, or take the sample."),
        ("file", "/no/such", "There is no file “/no/such” on this machine. Check the path, or upload the file."),
    ],
)
def test_a_form_without_data_starts_nothing(home: Path, source: str, data: str, said: str) -> None:
    forget()
    view = finetune.start_from_form(View(ticket=finetune.new_ticket()), source, data, "demo/ptuning_v2", "", False)

    assert str(view.form_problem) == said
    assert not (home / "runs").exists()


def test_an_upload_cannot_leave_its_folder(home: Path, tmp_path: Path) -> None:
    given = tmp_path / "..evil name $(x).jsonl"
    given.write_text("{}")
    first, path = finetune.take_upload(View(), SimpleNamespace(name=str(given)))
    second, other = finetune.take_upload(View(), SimpleNamespace(name=str(given)))

    assert Path(path) == home / "data" / "evil_name_x_.jsonl"
    assert Path(other).parent == home / "data"
    assert path != other
    assert (first.source, first.data, second.data) == ("file", path, other)


def test_the_verdict_names_lines(home: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    good = {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    data.write_text("\n".join([json.dumps(good), "not json", *["{}"] * 7]))
    html = finetune.render_review("en", View(source="file", data=str(data), preset="demo/ptuning_v2"))

    assert "1 records can be used, 8 cannot" in html
    assert "Line 2:" in html
    assert "… and 3 more" in html


def test_an_action_that_breaks_says_so_and_changes_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def breaks(view: View) -> View:
        raise ZeroDivisionError

    (view,) = live._acted(breaks, View(name="kept"))

    assert view == View(name="kept", problem=view.problem)
    assert view.problem is not None
    assert view.problem.key == "ui.broken"
    assert "ZeroDivisionError" in caplog.text
    assert live._acted(lambda view: (view, "extra"), view) == (View(name="kept"), "extra")


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


def wait_until(true: Any, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_click_during_a_checkup_waits_and_a_second_one_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from glmstudio.ui import checkup

    gate, looks, ends = threading.Event(), [], []

    def look(**_: Any) -> Any:
        looks.append(len(ends))
        gate.wait(10)
        return SimpleNamespace(gpus=(), stale=(), findings=[])

    monkeypatch.setattr(checkup, "diagnose", look)
    monkeypatch.setattr(checkup, "undoable", list)
    monkeypatch.setattr(checkup, "entries", list)
    monkeypatch.setattr(checkup, "end_stale", lambda tokens, tell: ends.append(tokens) or [])
    made = checkup.Checkup()
    made.start()
    for _ in range(3):
        made.end(["token"])
    made.start()
    gate.set()
    deadline = time.monotonic() + 10
    while (made.running or not ends) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ends == [["token"]]
    assert looks == [0, 1]
