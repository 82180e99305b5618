"""What a report comes to: the sentence of the Doctor page and of the rail."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from glmstudio.doctor import Finding, Report, StaleProcess
from glmstudio.system.process import Identity
from glmstudio.ui.doctor.doctor_step import render
from glmstudio.ui.doctor.verdict import judge
from glmstudio.ui.shell import frame
from glmstudio.ui.state.checkup import CHECKUP, CheckupState
from glmstudio.ui.state.page_state import PageState

LEFT = StaleProcess(
    "token", Identity("boot", 4711, 1), "foreign_orphan", "python train.py", 60.0, values={"folder": "/srv"}
)
LOW = Finding("warning", "low", {"folder": "/tmp", "free": 0.1}, id="tmp.free", family="machine")
FULL = Finding("error", "full", {"folder": "/home", "free": 0.1}, id="disk.free", family="machine")
STALE = Finding(
    "warning", "foreign", {"count": 1, "pids": "4711"}, action="proc.end", id="proc.stale", family="leftovers"
)
NOTE = Finding("info", "small", {"size": "64.0 MiB"}, id="shm.size", family="machine")
FINE = Finding("ok", "ok", {"free": "1.0 GiB", "total": "2.0 GiB"}, id="ram.free", family="machine")


@pytest.mark.parametrize(
    ("results", "stale", "look", "words"),
    [
        ((FINE, NOTE), (), "good", "Ready"),
        ((FINE, LOW), (), "good", "Ready, with 1 note"),
        ((LOW, STALE), (LEFT,), "good", "Ready, with 2 notes"),
        ((STALE,), (LEFT,), "good", "Ready, with 1 note"),
        ((STALE,), (), "good", "Ready, with 1 note"),
        ((LOW, FULL, NOTE), (), "bad", "1 thing needs you"),
        ((FULL, FULL), (LEFT,), "bad", "2 things need you"),
    ],
)
def test_page_and_rail_say_the_same(
    results: tuple[Finding, ...],
    stale: tuple[StaleProcess, ...],
    look: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = Report(results, (), stale, 1.0)
    verdict = judge(report)
    assert (verdict.look, verdict.words("en")) == (look, words)
    monkeypatch.setattr(CHECKUP, "state", CheckupState(report=report))
    assert frame.steps("en")[0].words == words
    for lang in ("en", "zh") if verdict.count else ():  # and so does the terminal, which says how much was checked, too
        assert re.match(re.escape(verdict.words(lang)) + "[.。]", report.summary(lang))
    page = render("en", PageState())
    title = "Ready to fine-tune the demo model on the CPU" if words == "Ready" else words
    assert f"<h2>{title}</h2>" in page
    assert 'data-go="model"' in page, "nobody is kept from going on"
    assert ('gs-look-primary" data-go="model"' in page) == (look == "good")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_all_well_is_one_line_and_folded_facts(lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHECKUP, "state", CheckupState(report=Report((FINE, NOTE), (), (), 1.0)))
    page = render(lang, PageState())
    before = page[: page.index("<details")]
    assert before.count("<section") == 2, "the verdict, and the card of what is folded"
    assert "gs-finding" not in before
    assert " open" not in page


def test_leftovers_are_listed_once_with_their_buttons_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHECKUP, "state", CheckupState(report=Report((STALE,), (), (LEFT,), 1.0)))
    monkeypatch.setattr(CHECKUP, "_renew", lambda *_: None)
    page = render("en", PageState())
    shown = page[: page.index("<details")]
    assert shown.count('data-tick="4711"') == 1
    assert "finding-proc.stale" not in page
    assert shown.index("data-tick-all") < shown.index('data-act="end"') < shown.index("<table")
    assert "Select all of mine (1)" in shown


def test_a_launcher_that_may_wait_for_workers_is_ticked_by_hand_only(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = replace(LEFT, kind="foreign_idle", identity=Identity("boot", 4712, 1))
    monkeypatch.setattr(CHECKUP, "_renew", lambda *_: None)
    for stale, every in (((LEFT, waits), "Select all of mine (1)"), ((waits,), "")):
        monkeypatch.setattr(CHECKUP, "state", CheckupState(report=Report((STALE,), (), stale, 1.0)))
        page = render("en", PageState())
        assert page.count("data-by-hand") == 1
        assert every in page
        assert ("data-tick-all" in page) == bool(every)
