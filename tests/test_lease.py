"""Which cards a run takes, by number or UUID, and who waits for whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmstudio.config import devices
from glmstudio.config.devices import Card, choose, overlap, processes_on
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.planning.memory_fit import device_memory_of
from glmstudio.rundir import queue_file
from glmstudio.rundir.run import Run
from glmstudio.runs import queue
from glmstudio.ui.finetune import form_actions
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state.form_state import recipe
from glmstudio.ui.state.page_state import FinetuneState


@pytest.fixture(autouse=True)
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three cards; the second one is nearly full."""
    free = (20_000, 3_000, 23_000)
    known = [Card(f"GPU-{letter}", at, "RTX 4090", free[at], 24_000) for at, letter in enumerate("abc")]
    monkeypatch.setattr(devices, "cards", lambda: known)
    clear_caches()


@pytest.mark.parametrize(
    ("wanted", "processes", "found"),
    [
        ("auto", 0, "GPU-c"),
        ("auto", 2, "GPU-a,GPU-c"),
        ("all", 0, "GPU-a,GPU-b,GPU-c"),
        ("all", 2, "GPU-a,GPU-c"),
        ("2, 0", 0, "GPU-a,GPU-c"),
        ("GPU-b", 1, "GPU-b"),
        ("cpu", 4, "cpu"),
    ],
)
def test_the_cards_of_a_run(wanted: str, processes: int, found: str) -> None:
    assert choose(wanted, processes) == found
    assert processes_on(found, processes) == (4 if found == "cpu" else found.count(",") + 1)


@pytest.mark.parametrize(
    ("wanted", "processes", "what"),
    [
        ("3", 0, "There is no GPU 3; available: cpu, 0, 1, 2."),
        ("0,GPU-a", 0, "A GPU is named twice in “0,GPU-a”."),
        ("auto", 4, "4 processes need as many GPUs, and 3 are selected."),
        ("0,1", 1, "1 processes need as many GPUs, and 2 are selected."),
    ],
)
def test_cards_that_cannot_be_taken(wanted: str, processes: int, what: str) -> None:
    with pytest.raises(StudioError) as wrong:
        choose(wanted, processes)
    assert wrong.value.what() == what


def test_devices_overlap_where_they_have_a_card_in_common() -> None:
    assert overlap("GPU-b", "GPU-b,GPU-c")
    assert not overlap("GPU-a", "GPU-b,GPU-c")
    assert not overlap("cpu", "GPU-a")


def test_the_plan_is_for_the_fullest_card_and_names_them() -> None:
    place = device_memory_of("GPU-a,GPU-b")
    assert (place.name, place.free, place.processes) == ("2 × RTX 4090", 3_000 << 20, 2)
    with pytest.raises(StudioError, match="There is no GPU GPU-gone"):
        device_memory_of("GPU-gone")


def test_nobody_overtakes_on_a_card_for_which_an_earlier_run_waits(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, device in (("both", "GPU-a,GPU-b"), ("one", "GPU-a"), ("other", "GPU-c")):
        write_json(home / "runs" / name / "run.json", {"run_id": name, "device": device, "created": 1.0})
        queue_file.add(name)
    monkeypatch.setattr(queue, "_held", lambda device: "GPU-b" in device)
    started: list[str] = []
    assert queue.advance(lambda run: started.append(run.name)) == started == ["other"]
    assert queue_file.waiting() == ["both", "one"]
    assert Run("both", home / "runs/both").device == "GPU-a,GPU-b"


def test_a_click_takes_a_card_or_leaves_it(home: Path) -> None:
    def clicked(view: FinetuneState, card: str) -> FinetuneState:
        clear_caches()
        return form_actions.act(view, {"act": "card", "card": card})

    view = clicked(FinetuneState(preset="demo/ptuning_v2"), "GPU-a")
    assert dict(view.changes)["device"] == "GPU-a,GPU-c"
    view = clicked(clicked(view, "GPU-c"), "GPU-a")
    assert dict(view.changes)["device"] == "auto"
    assert recipe(view).device == "GPU-c"
    assert clicked(view, "<script>").changes == view.changes
