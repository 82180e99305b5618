"""What a copied report may tell, the record of changes, and the checks before a start."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import pytest

from glmstudio.doctor.engine import audit
from glmstudio.doctor.preflight import preflight
from glmstudio.errors import StudioError
from glmstudio.system.redact import redact

SECRETS = [
    "token=hf_AbCdEfGhIjKlMnOp", "hf_AbCdEfGhIjKlMnOp", "sk-1234567890abcdef", "http://me:pa55@proxy:3128", "password: hunter2",
    "GPU-6f0c1f2e-aaaa-bbbb-cccc-0123456789ab", "192.168.1.20", "10.0.0.9", "2001:db8:1:2:3:4:5:6", "52:54:00:12:34:56",
    "serve.py --api-key hunter2", "/home/anna/models/chatglm3-6b", "C:\\Users\\anna\\x", "4d5567466e894d5567466e894d5567466e89",
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_names_and_places_are_taken_out(secret: str) -> None:
    text = redact(f"It said “{secret}” and more.")
    assert text.startswith("It said “")
    assert text.endswith("” and more.")
    for part in ("hf_A", "1234567890", "pa55", "hunter2", "6f0c", "192.168", "10.0.0", "2001", "52:54", "anna", "4d55"):
        assert part not in text


def test_names_of_this_machine_and_person_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "annas-pc")
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/anna"))
    assert redact("“annas-pc” leads nowhere for anna, but annabel may stay") == (
        "“<host>” leads nowhere for <user>, but annabel may stay"
    )


def test_other_users_are_not_named() -> None:
    assert redact("held by python (12, bob, 6.8 GB) and bobby, root", {"bob", "root", "?"}) == (
        "held by python (12, <user>, 6.8 GB) and bobby, root"
    )


def test_what_helps_stays() -> None:
    text = "127.0.0.1:29400, driver 515.105.01, torch 2.13.0+cpu, sudo tee -a /etc/hosts, 12.5 / 24.0 GB, process 4711, ::1"
    assert redact(text) == text


def test_changes_are_kept_newest_first_and_a_torn_line_is_passed_over(home: Path) -> None:
    assert audit.entries() == []
    audit.note("hosts.add", name="nlp")
    with (home / "state" / "changes.jsonl").open("a") as record:
        record.write('{"time": 5, "wh\n[1]\n')
    audit.note("end", pid=1)
    assert [entry["what"] for entry in audit.entries()] == ["end", "hosts.add"]
    assert audit.entries()[1]["name"] == "nlp"


@pytest.mark.torch
def test_a_healthy_machine_may_start(home: Path) -> None:
    report = preflight()
    assert report.status in ("ok", "info", "warning", "skipped")
    assert "disk.free" in {result.id for result in report.results}
    assert "hub.reach" not in {result.id for result in report.results}


@pytest.mark.torch
def test_a_start_that_must_fail_is_stopped_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMSTUDIO_HOME", "/proc/studio")
    with pytest.raises(StudioError) as stopped:
        preflight()
    assert stopped.value.what("en").startswith("The studio cannot write to /proc/studio: ")
    assert stopped.value.fix("en") == (
        "Correct the owner of the folder, or set GLMSTUDIO_HOME to a folder of your own."
    )
