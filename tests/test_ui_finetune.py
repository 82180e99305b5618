"""The Fine-tune step without a browser: the form, the review, the runs, and what hostile names do to them."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import threading
import time
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glmstudio.config import presets
from glmstudio.config.presets import load_preset, save_preset
from glmstudio.config.settings import Settings, change
from glmstudio.data import survey
from glmstudio.data.store import prepare
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.paths import DEMO, SAMPLE
from glmstudio.rundir.record import RunRecord
from glmstudio.rundir.run import find_run
from glmstudio.ui.finetune import (
    cluster_form,
    finetune_step,
    form_actions,
    preset_cards,
    review,
    settings_form,
    start_bar,
)
from glmstudio.ui.finetune.own import own_actions, own_view
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.runs import compare, run_actions, runs_view
from glmstudio.ui.state import runwatch, uploads
from glmstudio.ui.state.background import BackgroundTask, BackgroundTasks
from glmstudio.ui.state.form_state import read_form
from glmstudio.ui.state.page_state import FinetuneState, PageState, RunsState
from glmstudio.ui.state.runwatch import Reading, RunWatch
from tests.hostile_text import HOSTILE, harmless
from tests.waiting import until

PRESET = "demo/ptuning_v2"
FREE = 0
GOOD = {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


@pytest.fixture
def read(home: Path) -> None:
    """The sample is read, so a start need not wait."""
    prepare(SAMPLE, DEMO / "model")
    clear_caches()


def a_run(home: Path, name: str, **more: Any) -> None:
    """A run that ended long ago."""
    settings = {"model": "demo", "method": "ptuning_v2", "steps": 3, "data": "/x/y.jsonl"} | more.pop("settings", {})
    folder = home / "runs" / name
    write_json(folder / "run.json", {"run_id": name, "settings": settings, "preset": PRESET, "created": 1.0} | more)
    write_json(folder / "status.json", {"state": "stopped", "ended": 5.0})
    rows = [{"step": step, "loss": 3.0 / step, "learning_rate": 0.1, "seconds": step} for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clear_caches()


def test_two_clicks_at_once_start_one_run(read: None, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []

    def slow_start(asked: Any, **more: Any) -> Any:
        started.append({**vars(asked), "preset": asked.preset.name, **more})
        time.sleep(0.1)
        return SimpleNamespace(name=f"run-{len(started)}")

    monkeypatch.setattr(form_actions, "start_asked", slow_start)
    state, after = PageState(finetune=FinetuneState(changes=(("steps", "5"),))), []
    clicks = [
        threading.Thread(target=lambda: after.append(finetune_step.start_from_form(state, "sample", "", " mine ")))
        for _ in range(2)
    ]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()

    assert started == [
        {
            "preset": PRESET,
            "data": SAMPLE,
            "name": "mine",
            "changes": {"steps": "5"},
            "cluster": None,
            "wait": True,
            "beside_chat": False,
        }
    ]
    assert [one.runs.run for one in after] == ["run-1", "run-1"]
    assert [one.finetune.form_problem for one in after] == [None, None]


@pytest.mark.parametrize(
    ("source", "data", "said"),
    [
        ("file", "  ", "No data file was chosen. Enter its path, upload it, or use the sample."),
        (
            "file",
            "/no/such",
            "There is no file or folder “/no/such” on this machine. Check the path, or upload the file.",
        ),
        (
            "file",
            "x" * 5000,
            f"There is no file or folder “{'x' * 5000}” on this machine. Check the path, or upload the file.",
        ),
    ],
)
def test_a_form_without_data_starts_nothing(home: Path, source: str, data: str, said: str) -> None:
    clear_caches()
    state = finetune_step.start_from_form(PageState(), source, data, "")

    assert str(state.finetune.form_problem) == said
    assert not (home / "runs").exists()


def test_an_upload_cannot_leave_its_folder(home: Path, tmp_path: Path) -> None:
    given = tmp_path / "..evil name $(x).jsonl"
    given.write_text("{}")
    first = own_actions.take_upload(FinetuneState(), SimpleNamespace(name=str(given)))
    given.write_text("{ }")
    second = own_actions.take_upload(FinetuneState(), SimpleNamespace(name=str(given)))

    assert Path(first.data) == home / "data" / "evil_name_x_.jsonl"
    assert Path(second.data) == home / "data" / "evil_name_x_-2.jsonl"
    assert (first.source, second.source) == ("file", "file")


@pytest.mark.parametrize("broken", [False, True])
def test_what_a_browser_sent_is_kept_once_or_not_at_all(
    home: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    def full(_: Path, target: Path) -> None:
        target.write_text("ha")
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    uploads.prepare()
    given = [home / f"cache/uploads/{each}/data.jsonl" for each in ("a1b2", "c3d4")]
    for each in given:
        each.parent.mkdir()
        each.write_text("{}")
    if broken:
        monkeypatch.setattr(uploads.shutil, "move", full)
    own_actions.take_upload(FinetuneState(), [SimpleNamespace(name=str(each)) for each in given])

    left = [str(each.relative_to(home / "data")) for each in (home / "data").rglob("*") if each.is_file()]
    assert sorted(left) == ([] if broken else ["data+1/data-2.jsonl", "data+1/data.jsonl"])
    assert list((home / "cache/uploads").iterdir()) == []


def test_a_disk_that_is_full_is_told_beside_the_data_and_with_the_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Any, target: Any) -> None:
        Path(target).write_text("ha")
        raise OSError(28, "No space left on device")

    given = tmp_path / "data.jsonl"
    given.write_text("half")
    monkeypatch.setattr(uploads.shutil, "copyfile", full)
    view = own_actions.take_upload(FinetuneState(source="file", data="before"), SimpleNamespace(name=str(given)))
    assert (view.data, list((home / "data").iterdir())) == ("before", [])
    assert "No space left on device" in own_view.render_own("en", view)

    a_run(home, "kept")
    monkeypatch.setattr(run_actions, "write_note", lambda *_: full(0, tmp_path / "x"))
    run_actions.act(PageState(), {"act": "note", "run": "kept", "fields": {"note": "x"}})
    assert "No space left on device" in runs_view.render_open("en", RunsState(run="kept"))


@pytest.mark.parametrize("step", ["abc", "-1", "9" * 6000, ["1"], "1.5"])
@pytest.mark.parametrize("act", ["resume", "chat"])
def test_a_step_that_is_none_is_told(act: str, step: Any, home: Path) -> None:
    a_run(home, "kept")
    view = run_actions.act(PageState(), {"act": act, "run": "kept", "step": step})
    assert view.runs.run == "kept"
    assert "has no complete checkpoint" in runs_view.render_open("en", view.runs)


@pytest.mark.parametrize(
    ("text", "said"), [("", "contains no conversation that can be trained on"), ("bad\n{}\n", "Line 1")]
)
def test_a_file_without_a_usable_record_says_so(text: str, said: str, home: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(text)
    view = FinetuneState(source="file", data=str(data), preset=PRESET)
    look = read_form(view).look
    until(lambda: survey.look(data, DEMO / "model").store is not None)
    clear_caches()

    assert look is not None
    found = read_form(view)
    assert found.problem is not None
    assert found.problem.key in ("data.file_empty", "data.file_problems")
    html = review.render_data("en", view)
    assert "gs-good" not in html
    assert "ended from outside" not in html
    assert said in html


def test_bad_records_are_named_by_line_and_are_the_users_choice(home: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join([json.dumps(GOOD), "not json", *["{}"] * 7]))
    prepare(data, DEMO / "model")
    view = FinetuneState(source="file", data=str(data), preset=PRESET)
    html = review.render_data("en", view)

    assert "Records with a problem: 8 of 9." in html
    assert "Line 2" in html
    assert "And 3 more." in html
    assert read_form(view).problem is not None
    dropped = form_actions.act(view, {"act": "policy", "policy": "drop"})
    assert dropped.changes == (("bad_records", "drop"),)
    assert read_form(dropped).problem is None
    assert "Left out: 8." in review.render_data("en", dropped)
    assert "--set bad_records=drop" in review.render_plan("en", dropped)


def test_settings_are_taken_over_all_or_not_at_all(read: None) -> None:
    preset = load_preset(PRESET).settings
    fields = {"steps": "7", "learning_rate": f"{preset.learning_rate:g}", "dtype": preset.dtype}
    view = form_actions.act(FinetuneState(), {"act": "settings", "fields": fields})

    assert (view.changes, view.settings_problem) == ((("steps", "7"),), None)
    wrong = form_actions.act(view, {"act": "settings", "fields": {"steps": "0", "dtype": "int7", "nonsense": "1"}})
    assert wrong.changes == view.changes
    assert wrong.settings_problem is not None
    html = settings_form.render_settings("en", wrong)
    assert (
        "These values cannot be used. The setting “Steps” cannot be 0; it must be between 1 and 10000000. The "
        "setting “Data type (dtype)” cannot be int7; it must be one of auto, float32, bfloat16, float16. There is no "
        "setting nonsense."
    ) in html
    assert "这些值不能采用。设置 “" in settings_form.render_settings("zh", wrong)
    assert "<td>Steps</td><td>1450</td><td>7</td>" in html


def test_a_preset_of_ones_own_is_saved_used_and_deleted(read: None, home: Path) -> None:
    changed = FinetuneState(preset=PRESET, changes=(("steps", "9"),))
    saved = form_actions.act(changed, {"act": "save-preset", "fields": {"preset_name": "demo/mine"}})

    assert (saved.preset, saved.changes) == ("demo/mine", ())
    assert load_preset("demo/mine").settings.steps == 9
    assert (home / "presets/demo/mine.toml").is_file()
    assert 'data-preset="demo/mine"' in preset_cards.render_presets("zh", saved)
    refused = form_actions.act(changed, {"act": "save-preset", "fields": {"preset_name": PRESET}})
    assert refused.form_problem is not None
    assert refused.form_problem.what() == f"The preset {PRESET} ships with the studio and cannot be changed."
    for name in ("../x", "a/b/c", "", "/etc/x"):
        refused = form_actions.act(changed, {"act": "save-preset", "fields": {"preset_name": name}})
        assert refused.form_problem is not None
        assert refused.form_problem.key == "presets.bad_name"
    form_actions.act(saved, {"act": "delete-preset", "preset": "demo/mine"})
    assert not (home / "presets/demo/mine.toml").exists()
    kept = form_actions.act(saved, {"act": "delete-preset", "preset": PRESET})
    assert kept.form_problem is not None
    assert load_preset(PRESET)


@pytest.mark.parametrize(
    "text", ['say "hi"', "a\\b", "two\nlines", 'x"\nsteps = 1\n#', "\x00\x1f\x7f", "\x85 \u2028 你好 😀"]
)
def test_any_text_survives_in_a_preset_and_nothing_else_comes_in(text: str, home: Path) -> None:
    settings = change(load_preset(PRESET).settings, {"sample_prompt": text, "learning_rate": 0.000123456789}, source="")
    save_preset("mine", settings)
    assert load_preset("mine").settings == settings
    # A form that was drawn and sent back unchanged changes nothing.
    drawn = settings_form.render_settings("en", FinetuneState(preset="mine"))
    assert 'value="0.000123456789"' in drawn


def test_half_a_character_is_refused(home: Path) -> None:
    wrong = form_actions.act(FinetuneState(preset=PRESET), {"act": "settings", "fields": {"sample_prompt": "\ud800"}})
    assert wrong.settings_problem is not None
    assert wrong.changes == ()


def test_a_preset_is_deleted_by_its_name_only(home: Path) -> None:
    (home / "presets").mkdir(parents=True)
    outside = home / "other.toml"
    outside.write_text("")
    for name in (f"{home}/presets/../other.toml", "../other", str(outside), f"{home}/other"):
        view = form_actions.act(FinetuneState(), {"act": "delete-preset", "preset": name})
        assert view.form_problem is not None, name
        assert read_form(FinetuneState(preset=name)).preset is None, name
    assert outside.exists()


def test_a_preset_that_cannot_be_read_is_told_and_can_go(home: Path) -> None:
    file = home / "presets" / "broken.toml"
    file.parent.mkdir(parents=True)
    file.write_text("steps = many")
    clear_caches()
    for lang in ("en", "zh"):
        assert str(file) in preset_cards.render_presets(lang, FinetuneState())
    assert form_actions.act(FinetuneState(), {"act": "delete-preset", "preset": "broken"}).form_problem is None
    assert not file.exists()


def test_a_full_disk_is_told_when_a_preset_is_saved(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(presets, "write_text", full)
    view = form_actions.act(FinetuneState(preset=PRESET), {"act": "save-preset", "fields": {"preset_name": "mine"}})
    assert str(view.form_problem) == (
        f"The preset {home}/presets/mine.toml could not be saved: No space left on device. Free some disk space, or "
        "check that you have write permission there."
    )


def test_what_does_not_fit_says_so_and_offers_what_does(read: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from glmstudio.planning.memory_fit import DeviceMemory

    monkeypatch.setattr(
        "glmstudio.planning.resolve.device_memory_of",
        lambda device, *_, **__: DeviceMemory(device, "", FREE, 1_000_000_000),
    )
    clear_caches()
    view = FinetuneState(preset=PRESET, changes=(("gradient_checkpointing", "off"),))
    monkeypatch.setitem(globals(), "FREE", 10**10)
    smallest = read_form(FinetuneState(preset=PRESET, changes=(*view.changes, ("pack_tokens", "1")))).plan
    assert smallest is not None
    monkeypatch.setitem(globals(), "FREE", round(smallest.need.total / 0.96) - 1_000_000)
    clear_caches()
    found = read_form(view)

    assert found.problem is not None
    assert found.problem.key == "runs.does_not_fit"
    assert 'data-act="remedy"' in start_bar.render_bar("en", view)
    fitting = form_actions.act(view, {"act": "remedy"})
    assert read_form(fitting).problem is None
    assert dict(fitting.changes)["gradient_checkpointing"] == "on"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_hostile_names_stay_text(lang: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = runwatch.RunState("failed", 1, 2, problem=StudioError("ui.finetune.no_file", path=HOSTILE), started=1.0)
    sample = {"step": 1, "question": HOSTILE, "answer": HOSTILE}
    run = SimpleNamespace(
        name=HOSTILE,
        path=home,
        model=HOSTILE,
        attempts=1,
        is_whole_model=False,
        record=RunRecord(),
        settings={"method": "lora", "model": HOSTILE},
        metrics=lambda offset: ([{"step": step, "loss": 1.0} for step in range(2 - offset)], 2),
        samples=lambda offset: ([sample], 1),
        ranks=lambda: [{"rank": rank, "step": 10, "machine": HOSTILE} for rank in (0, 1)],
        log=lambda offset: (f"Error: {HOSTILE}\n", 1),
    )
    known = [runwatch.RunSnapshot(run, state, HOSTILE, HOSTILE, HOSTILE, has_result=True)] * 2  # type: ignore[arg-type]
    write_json(home / "notes.json", {"note": f"{HOSTILE}</textarea>"})
    for module in (runs_view, compare):
        monkeypatch.setattr(module, "newest_first", lambda: known)
    form = FinetuneState(changes=((HOSTILE, HOSTILE),), preset=HOSTILE, data=HOSTILE)
    opened = RunsState(run=HOSTILE, compared=(HOSTILE, HOSTILE))

    for html in (
        runs_view.render_list(lang, opened),
        runs_view.render_open(lang, opened),
        compare.render_compare(lang, opened),
        review.render_plan(lang, form),
        preset_cards.render_presets(lang, form),
    ):
        assert harmless(html)
    assert "gs-pinned" in runs_view.render_open(lang, opened)


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
        rows.append({"step": len(rows), "validation_loss": 2.0})
        text += "10 %\r20 %\nRuntimeError: lost\nhalf"
        reading.advance(run)  # type: ignore[arg-type]
        reading.advance_log(run)  # type: ignore[arg-type]

    assert [step for step, _ in reading.points] == [1, 3, 5]
    assert [step for step, _ in reading.validation] == [1, 3, 5]
    assert reading.log_tail().splitlines() == [*["20 %", "RuntimeError: lost"] * 3, "half"]
    assert list(reading.pinned) == ["RuntimeError: lost"] * 3
    assert [start for start, _ in offsets] == [0, *[end for _, end in offsets[:-1]]]


def test_a_stop_that_breaks_is_told_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(run: Any, *, now: bool) -> Any:
        yield "runs.stage.asked"
        raise StudioError("ui.finetune.no_data")

    monkeypatch.setattr(runwatch, "stop_run", refuses)
    watch = RunWatch()
    watch.stop(SimpleNamespace(name="a"), now=False)  # type: ignore[arg-type]

    until(lambda: not watch.stopping("a"))
    assert str(watch.problem("a")) == "No data file was chosen. Enter its path, upload it, or use the sample."


def test_a_background_task_is_run_once_and_its_failure_told() -> None:
    tasks, gate, done = BackgroundTasks(), threading.Event(), []

    def work(task: BackgroundTask) -> str:
        gate.wait(5)
        done.append(1)
        return "there"

    for _ in range(3):
        tasks.start("run", "export", work)
    gate.set()
    until(lambda: not tasks.get("run", "export").running)  # type: ignore[union-attr]
    assert (done, tasks.get("run", "export").result) == ([1], "there")  # type: ignore[union-attr]

    def fails(task: BackgroundTask) -> str:
        raise StudioError("runs.unknown", name="x")

    tasks.start("run", "export", fails)
    until(lambda: not tasks.get("run", "export").running)  # type: ignore[union-attr]
    assert tasks.get("run", "export").problem.what() == "There is no run named x."  # type: ignore[union-attr]


def charts(html: str) -> list[Any]:
    """The data of each chart in it."""
    return [json.loads(unescape(each)) for each in re.findall(r'data-chart="([^"]*)"', html)]


def test_runs_are_compared_by_curve_and_by_what_differs(home: Path) -> None:
    a_run(home, "one", settings={"learning_rate": 0.1})
    a_run(home, "two", settings={"learning_rate": 0.2})
    view = run_actions.act(PageState(), {"act": "compare", "ticked": ["one", "two"]})
    html = compare.render_compare("en", view.runs)

    assert [name for name, *_ in charts(html)[0]["lines"]] == ["one", "two"]
    assert '<td data-label="one">0.1</td><td data-label="two">0.2</td>' in html
    assert "Learning rate" in html
    assert "<b>Steps</b>" not in html, "what is equal is not listed"
    assert compare.render_compare("en", run_actions.act(view, {"act": "uncompare"}).runs) == ""


def test_a_run_is_renamed_noted_and_deleted_by_its_buttons(home: Path) -> None:
    a_run(home, "old")
    view = run_actions.act(
        PageState(runs=RunsState("old")), {"act": "note", "run": "old", "fields": {"note": "the good one"}}
    )
    view = run_actions.act(view, {"act": "rename", "run": "old", "fields": {"new_name": "new"}})

    assert view.runs.run == "new"
    assert "the good one" in runs_view.render_open("en", view.runs)
    refused = run_actions.act(view, {"act": "rename", "run": "new", "fields": {"new_name": "../new"}})
    assert "cannot be used for a run" in runs_view.render_open("en", refused.runs)
    run_actions.act(view, {"act": "delete", "run": "new"})
    assert not (home / "runs/new").exists()
    with pytest.raises(StudioError, match="There is no run named new"):
        find_run("new")


def test_runs_that_are_over_are_not_read_again_until_their_files_change(home: Path) -> None:
    for number in range(20):
        a_run(home, f"run-{number}")
    runs_view.render_list("en", RunsState(run=""))
    opened: list[Path] = []
    original = io.open

    def counted(file: Any, *arguments: Any, **more: Any) -> Any:
        opened.append(Path(str(file)))
        return original(file, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", counted)
        clear_caches()
        runs_view.render_list("en", RunsState(run=""))
        assert [file for file in opened if "runs" in file.parts] == []
        write_json(home / "runs/run-7/status.json", {"state": "failed", "ended": 6.0})
        clear_caches()
        assert "Failed" in runs_view.render_list("en", RunsState(run=""))
    assert {file.parent.name for file in opened if "runs" in file.parts} == {"run-7"}


def test_a_poll_costs_the_same_after_many_steps(home: Path) -> None:
    a_run(home, "long")
    metrics = home / "runs/long/metrics.jsonl"
    with metrics.open("a") as file:
        file.writelines(json.dumps({"step": step, "loss": 1.0, "seconds": step}) + "\n" for step in range(4, 100_001))
    run, reading = find_run("long"), Reading()
    reading.advance(run)
    assert run.read_state().step == 100_000
    assert len(reading.points) <= 4000
    read: list[int] = []
    original = Path.open

    class Counting:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def seek(self, place: int) -> int:
            return int(self.file.seek(place))

        def read(self) -> bytes:
            data: bytes = self.file.read()
            read.append(len(data))
            return data

    def counted(path: Path, *arguments: Any, **more: Any) -> Any:
        file = original(path, *arguments, **more)
        return Counting(file) if path == metrics else file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", counted)
        reading.advance(run)
        run.read_state()
    assert sum(read) <= 8192, "a poll reads what is new, and the end of the file for the state"


def machines_form(rows: list[tuple[str, str]], **numbers: str) -> dict[str, Any]:
    fields = {"port": "29400", "least": "", "join_seconds": "600"} | numbers
    for number, (address, processes) in enumerate(rows, 1):
        fields |= {f"address_{number}": address, f"processes_{number}": processes}
    return {"act": "machines", "fields": fields}


@pytest.mark.parametrize(("lang", "title"), [("en", "Problems with these machines: 6"), ("zh", "这些机器有 6 处问题")])
def test_a_form_of_machines_tells_everything_that_is_wrong_and_keeps_what_was_typed(lang: str, title: str) -> None:
    typed = [("10.99.99.1", "1"), ("http://node2/", "0"), ("not a name<script>", "x")]
    after = form_actions.act(FinetuneState(), machines_form(typed, port="99999"))

    assert after.cluster is None
    assert after.machines == tuple(typed)
    error = after.machines_problem
    assert error is not None
    keys = [each.key.removeprefix("cluster.") for each in error.values["errors"]]
    assert sorted(keys) == ["bad_name", "not_here", "port_bounds", "processes_bounds", "processes_kind", "url"]
    html = cluster_form.render_machines(lang, after)
    assert title in html
    assert html.count("<li>") == 6
    assert harmless(html)
    more = cluster_form.act_add(after, machines_form(typed))
    assert more.machines == (*typed, ("", "x"))


def test_every_setting_has_one_place_and_what_differs_is_marked_and_can_go_back(read: None) -> None:
    grouped = [*settings_form.BASIC, *(name for names in settings_form.GROUPS.values() for name in names)]
    names = {field.name for field in dataclasses.fields(Settings)} - set(settings_form.PLACED_ELSEWHERE)
    assert sorted(grouped) == sorted(names)
    view = form_actions.act(FinetuneState(), {"act": "settings", "fields": {"steps": "7", "seed": "3"}})
    for lang, title, was in (("en", "Settings (changed: 2)", "Preset: 1450"), ("zh", "改动 2 处", "预设值：1450")):
        html = settings_form.render_settings(lang, view)
        assert html.count("gs-marked") == 2
        assert title in html
        assert was in html
        assert re.search(r'data-key="advanced"\s+open', html), "a mark is not hidden"
    back = form_actions.act(view, {"act": "reset-one", "setting": "steps"})
    assert back.changes == (("seed", "3"),)
    assert form_actions.act(back, {"act": "reset"}).changes == ()
    wrong = form_actions.act(back, {"act": "settings", "fields": {"steps": "0"}})
    html = settings_form.render_settings("en", wrong)
    assert re.search(r'data-field="steps"[^>]* aria-invalid="true"', html)
    assert "The setting “Steps” cannot be 0" in start_bar.render_bar("en", wrong)


def test_start_a_moment_too_early_waits_for_the_data(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form_actions, "start_asked", lambda *_, **__: SimpleNamespace(name="run-1"))
    clear_caches()
    state = PageState(finetune=FinetuneState(preset="demo/lora"))
    problem = read_form(state.finetune).problem
    assert problem is not None
    assert problem.key == "ui.finetune.reading"
    after = form_actions.start(state)
    assert (after.finetune.form_problem, after.finetune.started, after.runs.run) == (None, "run-1", "run-1")
