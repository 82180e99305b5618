"""Fixes that a person confirms: shown, done, proven, written down, undone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from glmstudio.doctor import Finding, diagnose
from glmstudio.doctor.engine import audit
from glmstudio.doctor.fixes import fixes, hosts_fix, torch_fix
from glmstudio.doctor.fixes.fixes import FixOffer
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.setup import torch_build
from glmstudio.system import hosts_file
from glmstudio.system.process import identify
from glmstudio.words import LANGUAGES, has

UNRESOLVED = Finding(
    "warning", "unresolved", {"name": "nlp", "code": -2}, action="hosts.add", id="net.hostname", family="network"
)
NO_CODE = Finding("error", "broken", {"error": ""}, action="torch.install", id="torch.start", family="pytorch")


@pytest.fixture
def file(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hosts file of the test's own, which the look-up in hosts_fix reads, too."""
    file = tmp_path / "etc" / "hosts"
    file.parent.mkdir()
    file.write_bytes(b"127.0.0.1 localhost")
    monkeypatch.setattr(hosts_file, "FILE", file)
    monkeypatch.setattr(hosts_fix, "_leads_here", lambda name: bool(hosts_file.addresses_of(file.read_bytes(), name)))
    return file


def offered(result: Finding = UNRESOLVED) -> FixOffer:
    offer = fixes.offer(result)
    assert offer is not None
    return offer


def test_a_line_is_shown_put_in_written_down_and_taken_out(file: Path) -> None:
    offer = offered()
    assert "+127.0.1.1\tnlp\t# added by GLM Studio" in offer.shown
    assert offer.label("en") == "Add the line"
    assert file.read_bytes() == b"127.0.0.1 localhost"
    fixes.apply(offer)
    assert hosts_file.our_names(file.read_bytes()) == ["nlp"]
    (undo,) = fixes.undoable()
    assert (undo.fix, undo.subject) == ("hosts.remove", "nlp")
    fixes.apply(undo)
    assert file.read_bytes() == b"127.0.0.1 localhost"
    assert fixes.undoable() == []
    assert [(entry["what"], entry["name"]) for entry in audit.entries()] == [
        ("hosts.remove", "nlp"),
        ("hosts.add", "nlp"),
    ]
    assert Path(audit.entries()[1]["backup"]).read_bytes() == b"127.0.0.1 localhost"


def test_what_was_shown_is_what_is_done(file: Path) -> None:
    offer = offered()
    file.write_bytes(b"127.0.0.1 localhost\n# somebody else\n")
    with pytest.raises(StudioError) as stopped:
        fixes.apply(offer)
    assert stopped.value.what("en") == (
        "The hosts file was changed by another program in the meantime, so nothing was done."
    )
    assert file.read_bytes() == b"127.0.0.1 localhost\n# somebody else\n"
    assert audit.entries() == []


def test_a_line_that_does_not_help_is_taken_out_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_fix, "_leads_here", lambda name: False)
    with pytest.raises(StudioError) as stopped:
        fixes.apply(offered())
    assert stopped.value.key == "doctor.hosts.no_help"
    assert file.read_bytes() == b"127.0.0.1 localhost"


def test_a_name_of_another_address_is_not_offered(file: Path) -> None:
    file.write_bytes(b"10.0.0.9 nlp\n")
    assert fixes.offer(UNRESOLVED) is None


@pytest.fixture
def administrator(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A user without rights, and a pkexec of the test's own: `behave` is what it does with the command."""

    def behave(script: str) -> None:
        program = tmp_path / "bin" / "pkexec"
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr(hosts_fix, "_may_write", lambda: False)

    return behave


def test_the_system_asks_for_the_administrators_rights(
    administrator: Callable[[str], None], file: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "editor.py"
    copied.write_text(Path(hosts_file.__file__).read_text().replace('Path("/etc/hosts")', f"Path({str(file)!r})"))
    administrator(f'echo "$@" > {tmp_path}/asked; shift 3; exec {sys.executable} -I {copied} "$@"')
    fixes.apply(offered())
    assert hosts_file.our_names(file.read_bytes()) == ["nlp"]
    python, isolated, editor, *words = (tmp_path / "asked").read_text().split()
    assert (isolated, Path(editor), words[:2]) == ("-I", Path(hosts_file.__file__), ["add", "nlp"])
    assert python.startswith("/")


@pytest.mark.parametrize(
    ("script", "key"),
    [("exit 126", "dismissed"), ("exit 127", "rights"), ("echo symlink x; exit 3", "symlink"), ("exit 1", "rights")],
)
def test_no_rights_mean_a_command_to_copy(
    script: str, key: str, administrator: Callable[[str], None], file: Path
) -> None:
    administrator(script.replace("symlink x", "'symlink\tx'").replace("echo", "printf"))
    with pytest.raises(StudioError) as stopped:
        fixes.apply(offered())
    assert stopped.value.key == f"doctor.hosts.{key}"
    assert file.read_bytes() == b"127.0.0.1 localhost"
    if key == "rights":
        assert stopped.value.fix("en") == f"Run this in a terminal: `sudo python3 -I {hosts_file.__file__} add nlp`"


def test_without_a_screen_nobody_is_asked(
    administrator: Callable[[str], None], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    administrator("exit 0")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(StudioError) as stopped:
        fixes.apply(offered())
    assert stopped.value.key == "doctor.hosts.rights"


def test_every_reason_to_refuse_has_its_words() -> None:
    for reason in ("name", "mapped", "changed", "symlink", "rights", "read_only", "lost", "dismissed"):
        assert has(f"doctor.hosts.{reason}.what"), reason
        error = StudioError(f"doctor.hosts.{reason}", name="nlp", detail="x", command="sudo x")
        assert all(error.what(lang) and error.fix(lang) for lang in LANGUAGES)


# --- PyTorch ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def launcher(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A launcher of the test's own in the place of ours, which its own tests run for real."""
    monkeypatch.setattr(torch_build, "nvidia", lambda: ((515, 105, 1), (7, 0)))

    def behave(code: str) -> None:
        program = tmp_path / "launcher.py"
        program.write_text("import sys\nassert sys.argv[1:] == ['--torch', 'auto', 'doctor', '--json']\n" + code)
        monkeypatch.setattr(torch_fix, "LAUNCHER", program)

    return behave


def test_the_right_pytorch_is_installed_by_the_launcher(launcher: Callable[[str], None]) -> None:
    launcher(
        "print('2/3 PyTorch 2.7.1+cu118', file=sys.stderr, flush=True)\nprint('{\"schema\": 2, \"findings\": []}')\nsys.exit(1)"
    )
    offer = offered(NO_CODE)
    assert offer.subject == "2.7.1+cu118"
    assert offer.shown.endswith("→ torch 2.7.1+cu118")
    told: list[str] = []
    fixes.apply(offer, told.append)
    assert told == ["2/3 PyTorch 2.7.1+cu118"]
    assert audit.entries()[0]["build"] == "2.7.1+cu118"


def test_a_launcher_that_fails_says_why(launcher: Callable[[str], None]) -> None:
    launcher("sys.exit('The network cannot be reached.')")
    with pytest.raises(StudioError) as stopped:
        fixes.apply(offered(NO_CODE))
    assert stopped.value.what("en") == "PyTorch could not be installed: The network cannot be reached."
    assert audit.entries() == []


def test_a_pytorch_in_use_is_not_replaced(launcher: Callable[[str], None], home: Path) -> None:
    launcher("sys.exit('never')")
    me = identify(os.getpid())
    assert me is not None
    write_json(home / "state" / "server.json", {"identity": me.to_json()})
    with pytest.raises(StudioError) as stopped:
        fixes.apply(offered(NO_CODE))
    assert stopped.value.key == "doctor.torch_fix.busy"


def test_an_unknown_fix_is_an_error(home: Path) -> None:
    with pytest.raises(StudioError, match="There is no fix named rm"):
        fixes.apply(FixOffer("rm", "", "", ""))


# --- A real start ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.torch
def test_two_workers_meet_for_real(home: Path) -> None:
    (result,) = diagnose(only=["dist.smoke"]).results
    assert result.status == "ok", result.fact("en")


def test_the_long_check_is_made_only_when_asked(home: Path) -> None:
    assert "dist.smoke" not in {check.id for check in diagnosis_checks()}
    assert "dist.smoke" in {check.id for check in diagnosis_checks(deep=True)}


def diagnosis_checks(*, deep: bool = False) -> list:
    from glmstudio.doctor.diagnosis import chosen

    return chosen(deep=deep)
