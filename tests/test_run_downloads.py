"""What a run can be looked at with elsewhere: figures, log, report, exports, and whether it overfits."""

from __future__ import annotations

import csv
import getpass
import io
import json
import socket
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from glmstudio.cli import main
from glmstudio.files import write_json
from glmstudio.models.exports.new_folder import free_folder
from glmstudio.rundir.overfitting import overfitting
from glmstudio.rundir.run import Run, find_run
from glmstudio.runs.metrics_export import export_metrics
from glmstudio.runs.run_report import report_text
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.framework.zip_stream import zip_stream
from glmstudio.ui.runs import runs_view
from glmstudio.ui.runs.downloads import export_file as exports
from glmstudio.ui.runs.downloads.export_file import export_file, exports_of
from glmstudio.ui.runs.downloads.run_file import run_file
from glmstudio.ui.runs.log_search import search_log
from glmstudio.ui.state.page_state import RunsState
from tests.hostile_text import HOSTILE, harmless

NAME = "Zoë's 训练 #1 100% <b>"  # more than the studio itself would let through
VALIDATION = ((10, 2.0), (20, 1.5), (30, 1.75), (40, 1.875))


def a_run(home: Path, name: str = NAME, log: str = "", **changes: Any) -> Run:
    """A finished run with figures, samples and a log."""
    folder = home / "runs" / name
    chosen = {"model": "demo", "method": "lora", "steps": 40, "data": f"{Path.home()}/secret place/my 数据.jsonl"}
    record = {"run_id": name, "settings": chosen | changes, "preset": "demo/lora", "created": 1_700_000_000.0}
    write_json(folder / "run.json", record)
    write_json(folder / "status.json", {"state": "finished", "ended": 5.0})
    write_json(folder / "records.json", {"used": 48, "trained": 40, "validation": 8})
    rows: list[dict[str, Any]] = [
        {"step": step, "loss": 3.0 / step, "learning_rate": 0.1, "grad_norm": 1.5, "seconds": step / 10}
        for step in range(1, 41)
    ]
    rows += [{"step": step, "validation_loss": loss} for step, loss in VALIDATION]
    rows.sort(key=lambda row: row["step"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "not json\n")
    sample = {"step": 40, "question": HOSTILE, "answer": f"{HOSTILE}\n# | heading\n/home/anna/keys.txt"}
    (folder / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    (folder / "train.log").write_text(log, encoding="utf-8")
    (folder / "result").mkdir()
    write_json(folder / "result/adapter.json", {})
    clear_caches()
    return find_run(name)


@pytest.fixture
def client() -> TestClient:
    """The downloads as the studio serves them, without its door."""
    routes = [Route("/runs/{name}/{file}", run_file), Route("/exports/{file}", export_file)]
    return TestClient(Starlette(routes=routes))


def events(data: bytes) -> list[Any]:
    """The events of an event file, by the protocol's own classes; check sums are left to TensorBoard."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_the_table_has_a_row_for_each_step_with_what_was_measured_at_it(home: Path, tmp_path: Path) -> None:
    a_run(home)
    assert main(["runs", "metrics", NAME, "--to", "csv", str(tmp_path / "out.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))

    assert [int(row["step"]) for row in rows] == list(range(1, 41))
    assert {row["step"]: row["validation_loss"] for row in rows if row["validation_loss"]} == {
        str(step): str(loss) for step, loss in VALIDATION
    }
    assert (rows[1]["loss"], rows[1]["seconds"], rows[1]["memory"]) == ("1.5", "0.2", "")


def test_metrics_are_never_written_over_something_and_never_from_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(home)
    (tmp_path / "there").mkdir()
    for form in ("csv", "tensorboard"):
        assert main(["runs", "metrics", NAME, "--to", form, str(tmp_path / "there")]) == 1
        assert "already exists" in capsys.readouterr().err
    (run.path / "metrics.jsonl").unlink()
    assert main(["runs", "metrics", NAME, "--to", "tensorboard", str(tmp_path / "new")]) == 1
    assert "has not measured anything" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "there"]


def test_event_files_hold_every_figure_and_no_name_of_the_machine(
    home: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # tensorboardX would load it
    a_run(home)
    reply = client.get(f"/runs/{quote(NAME, safe='')}/tensorboard.zip")
    (member,) = zipfile.ZipFile(io.BytesIO(reply.content)).infolist()
    found = events(zipfile.ZipFile(io.BytesIO(reply.content)).read(member))
    figures = [(event.step, value.tag, value.simple_value) for event in found for value in event.summary.value]

    assert reply.headers["content-disposition"].startswith("attachment;")
    assert socket.gethostname() not in member.filename
    assert found[0].file_version == "brain.Event:2"
    assert [(step, loss) for step, tag, loss in figures if tag == "eval/loss"] == list(VALIDATION)
    assert [step for step, tag, _ in figures if tag == "train/loss"] == list(range(1, 41))
    assert found[-1].wall_time == pytest.approx(1_700_000_004.0)


@pytest.mark.rare
def test_tensorboard_itself_reads_them(home: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(export_metrics(a_run(home), "tensorboard", tmp_path / "events"))).Reload()

    assert {"train/loss", "eval/loss", "train/learning_rate"} <= set(found.Tags()["scalars"])
    assert [(each.step, each.value) for each in found.Scalars("eval/loss")] == list(VALIDATION)
    assert len(found.Scalars("train/loss")) == 40


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_report_tells_everything_but_who_and_where(home: Path, lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    run = a_run(home, learning_rate=0.5)
    for form in ("markdown", "html"):
        text = report_text(run, form, lang, [("learned", "1 of 4", "4 of 4")])
        for secret in ("/home", str(Path.home()), "secret place", "anna", socket.gethostname(), str(home)):
            assert secret not in text, (form, secret)
        for told in ("my 数据.jsonl", "40", "1.5", "0.5", "4 of 4"):
            assert told in text, (form, told)
    assert "<svg" in text
    assert harmless(text.replace("`", "").replace("{", "").replace("$", ""))  # no template engine reads a report


def test_a_report_in_markdown_takes_no_text_for_markup(home: Path) -> None:
    text = report_text(a_run(home), "markdown", "en")
    inside = [line for line in text.splitlines() if "onerror" in line or "heading" in line]

    assert inside
    assert all(line.startswith("    ") for line in inside)
    assert text.startswith("# Fine-tuning report: Zoë's 训练 \\#1 100% \\<b\\>\n")


def test_downloads_are_files_and_nothing_else_of_the_run(home: Path, client: TestClient) -> None:
    a_run(home, log="one\ntwo\n")
    place = f"/runs/{quote(NAME, safe='')}"
    for name, begin in {
        "metrics.csv": "step,seconds,loss", "train.log": "one\ntwo\n", "report.md": "# ", "report.html": "<!doctype html>",
    }.items():  # fmt: skip
        reply = client.get(f"{place}/{name}")
        assert (reply.status_code, reply.text[: len(begin)]) == (200, begin)
        assert reply.headers["content-disposition"].startswith("attachment;")
        assert reply.headers["x-content-type-options"] == "nosniff"
    for name in ("run.json", "result", "..%2Frun.json", "checkpoints"):
        assert client.get(f"{place}/{name}").status_code == 404
    assert client.get("/runs/..%2F..%2Fetc/train.log").status_code == 404
    (home / "runs" / NAME / "metrics.jsonl").unlink()
    assert client.get(f"{place}/metrics.csv?lang=zh").text.startswith("训练任务")


def test_an_export_is_downloaded_in_one_file_without_what_a_link_leads_to(home: Path, client: TestClient) -> None:
    run, outside = a_run(home, "mine"), home / "secret"
    outside.write_text("secret")
    first, second = free_folder(run.name, "peft"), free_folder(run.name, "peft", 20)
    for folder in (first, second):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner/weights.bin").write_bytes(bytes(range(256)) * 5000)
        (folder / "link").symlink_to(outside)
    (home / "exports/else").symlink_to(home / "runs")
    archive = zipfile.ZipFile(io.BytesIO(client.get("/exports/mine-peft.zip").content))

    assert archive.namelist() == ["mine-peft/inner/weights.bin"]
    assert archive.read("mine-peft/inner/weights.bin") == bytes(range(256)) * 5000
    assert {each.path.name: (each.form, each.size) for each in exports_of("mine")} == {
        "mine-peft": ("peft", 1_280_000), "mine-peft-step20": ("peft", 1_280_000),
    }  # fmt: skip
    assert free_folder("mine", "peft").name == "mine-peft-2"
    for other in ("else", "..", "%2e%2e", "nothing", ""):
        assert client.get(f"/exports/{other}.zip").status_code == 404


def test_what_is_too_large_for_a_browser_is_copied_by_a_command(
    home: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = free_folder(a_run(home, "mine").name, "peft")
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"1234")
    small = runs_view.render_open("en", RunsState(run="mine"))
    monkeypatch.setattr(exports, "MOST", 3)
    large = runs_view.render_open("en", RunsState(run="mine"))

    assert "/exports/mine-peft.zip" in small
    assert "rsync" not in small
    assert "/exports/mine-peft.zip" not in large
    assert "rsync -av --partial" in large
    assert client.get("/exports/mine-peft.zip").status_code == 404


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,6}(/[a-z]{1,6})?", fullmatch=True), st.binary(max_size=4000), max_size=6)
)
@settings(max_examples=25, deadline=None)
def test_a_zip_holds_every_file_as_it_is(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("folder")
    kept = {}
    for name, content in files.items():
        target = folder / (name.replace("/", "-dir/"))
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
        kept[f"x/{target.relative_to(folder).as_posix()}"] = content
    archive = zipfile.ZipFile(io.BytesIO(b"".join(zip_stream(folder, "x"))))

    assert archive.testzip() is None
    assert {name: archive.read(name) for name in archive.namelist()} == kept


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ((), None),
        ((2.0,), None),
        ((2.0, 1.5, 1.8), None),  # one validation proves nothing
        ((2.0, 1.5, 1.8, 1.9), 2),
        ((2.0, 1.5, 1.505, 1.9), None),  # within the noise
        ((2.0, 1.5, 1.8, 1.4), None),  # it went on to improve
        ((1.0, 1.2, 1.3, 1.4), 1),
        ((0.0, 0.1, 0.2), None),
    ],
)
def test_a_run_overfits_once_its_validation_loss_has_risen_for_good(
    losses: tuple[float, ...], step: int | None
) -> None:
    found = overfitting([(at, loss) for at, loss in enumerate(losses, 1)])

    assert (found and found.step) == step
    if found:
        assert (found.lowest, found.last, found.last_step) == (min(losses), losses[-1], len(losses))


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=30))
def test_overfitting_is_said_only_with_proof(losses: list[float]) -> None:
    found = overfitting([(at, loss) for at, loss in enumerate(losses, 1)])
    if found:
        after = losses[found.step :]
        assert len(after) >= 2
        assert min(after) > found.lowest == min(losses)
        assert found.rise >= 1 - 1e-9


def test_the_best_checkpoint_is_proposed_with_the_figures(home: Path) -> None:
    run = a_run(home, "mine")
    for step, loss in VALIDATION:
        folder = run.path / f"checkpoints/checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "adapter.json").write_text("{}")
        seal = {"step": step, "files": {"adapter.json": 2}, "loss": 1.0, "validation_loss": loss, "time": 1.0}
        write_json(folder / "checkpoint.json", seal)
    html = runs_view.render_open("en", RunsState(run="mine"))

    assert "from step 20 on" in html
    assert "1.500" in html or "1.5" in html
    assert 'data-step="20">Chat with step 20</button>' in html
    assert 'data-form="peft" data-step="20"' in html
    assert 'data-act="resume" data-run="mine" data-step="30"' in html
    assert 'data-act="resume" data-run="mine" data-step="40"' not in html, "a finished run has nothing left to do"
    write_json(run.path / "exam.json", {"result_step": 20})
    assert "Chat with step 20" not in runs_view.render_open("en", RunsState(run="mine"))


def test_the_whole_log_is_searched_and_read_on(home: Path) -> None:
    lines = [f"step {at}" for at in range(1, 1001)]
    run = a_run(home, "mine", log="\n".join(["Out Of LUCK 中文", *lines]) + "\nhalf")
    assert [*search_log(run, " out of luck ").found] == [(1, "Out Of LUCK 中文")]
    assert search_log(run, "step 7").count == 111
    with (run.path / "train.log").open("ab") as log:
        log.write(b" a line, step 77\n\xff\xfe broken step 78\n")
    again = search_log(run, "step 7")
    assert (again.count, list(again.found)[-2:]) == (
        113,
        [(1002, "half a line, step 77"), (1003, "\ufffd\ufffd broken step 78")],
    )
    assert len(again.found) <= 200


def test_a_hostile_log_is_shown_errors_first_and_never_whole(home: Path) -> None:
    a_run(home, "mine", log=f"RuntimeError: {HOSTILE}\n" + "x" * 5_000_000 + f"\n{HOSTILE}\n" + "y" * 3_000_000)
    html = runs_view.render_open("en", RunsState(run="mine", log_find=HOSTILE))

    assert harmless(html)
    assert len(html) < 200_000
    assert html.index("gs-pinned") < html.index('data-live="log-find"')
    assert "Lines found: 2" in html
    assert "/runs/mine/train.log" in html
