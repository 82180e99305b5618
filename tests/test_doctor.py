"""The report: its form, its words, and that no check can stop or delay the others."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from glmstudio.doctor import diagnose, diagnosis
from glmstudio.doctor.checks import pytorch
from glmstudio.doctor.engine.check import CHECKS, FAMILIES, Check, Probes, found
from glmstudio.doctor.engine.report import Finding, Report, StaleProcess
from glmstudio.system.process import Identity
from glmstudio.words import has, words
from tests.namespaces import doctor_in


def test_the_second_look_takes_no_torch(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnose()
    monkeypatch.setattr(pytorch, "ask_torch", lambda: pytest.fail("PyTorch was asked again"))
    report = diagnose()
    assert next(result for result in report.results if result.id == "torch.start").status == "ok"


def test_a_clean_machine_without_card_or_network_is_green(tmp_path: Path) -> None:
    """As in a new container: its own processes, names and mounts, and 64 MB of shared memory."""
    data = doctor_in("mount -t tmpfs -o size=64m tmpfs /dev/shm", tmp_path / "home")
    assert data["summary"]["status"] == "ok"
    assert data["summary"]["text"].startswith("Everything is fine: ")
    assert {finding["severity"] for finding in data["findings"]} == {"info"}
    assert {finding["id"] for finding in data["findings"]} == {"hub.reach", "shm.size"}
    driver = next(fact for fact in data["facts"]["checks"] if fact["id"] == "gpu.driver")
    assert driver["fact"] == "No NVIDIA driver: the studio uses the CPU, with the demo model."


def test_the_form_of_the_json_is_kept(home: Path) -> None:
    data = json.loads(json.dumps(diagnose().to_json("zh")))
    assert set(data) == {"schema", "summary", "findings", "facts"}
    assert data["schema"] == 2
    assert set(data["summary"]) == {"status", "text"}
    assert set(data["facts"]) == {"seconds", "checks", "gpus", "stale", "jobs"}
    for finding in data["findings"]:
        assert set(finding) == {"id", "severity", "what", "why", "fix"}
        assert all(finding.values())
    for fact in data["facts"]["checks"]:
        assert set(fact) == {"id", "subject", "family", "status", "case", "values", "title", "fact"}
        assert fact["title"]
        assert fact["fact"]


def test_the_doctor_does_not_load_torch_or_gradio() -> None:
    code = "import sys, glmstudio.doctor; print([m for m in ('torch', 'transformers', 'gradio') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_only_some_checks_can_be_asked_for(home: Path) -> None:
    assert [result.key for result in diagnose(only=["net.port"]).results] == ["net.port:29400", "net.port:29500"]
    assert [result.id for result in diagnose(only=["disk.free", "py.version"]).results] == ["py.version", "disk.free"]
    assert diagnose(only=[]).results == ()


def test_a_check_that_breaks_or_hangs_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, waited = threading.Event(), list[bool]()

    def breaks(_: Probes) -> Any:
        raise RuntimeError("no luck")

    def hangs(_: Probes) -> Any:
        waited.append(ended.wait(30))

    checks = [
        Check("disk.free", "machine", 5, breaks),
        Check("ram.free", "machine", 5, lambda _: found("ok", "ok", free="1.0 GiB", total="2.0 GiB")),
        Check("net.port", "network", 0.3, hangs),
        Check("gpu.driver", "card", 5, lambda _: None),
    ]
    monkeypatch.setattr(diagnosis, "CHECKS", checks)
    arrived: list[str] = []
    report = diagnose(tell=lambda results: arrived.extend(result.id for result in results))
    assert waited == [], "nobody waits for the one that hangs"
    ended.set()
    assert [(result.status, result.fact("en")) for result in report.results] == [
        ("skipped", "Does not apply to this machine."),
        ("crash", "No answer within 0 seconds."),
        ("crash", "The check itself failed: RuntimeError: no luck"),
        ("ok", "1.0 GiB of 2.0 GiB free"),
    ]
    assert arrived[-1] == "net.port"
    assert sorted(arrived) == sorted(check.id for check in checks)
    assert report.results[2].what("en") == "The check “Disk” could not be finished: RuntimeError: no luck"
    assert report.results[1].what("en") == "The check “Port” gave no answer within 0 seconds."
    assert report.results[1].what("zh") == "检查“端口”在 0 秒内没有结果。"
    assert report.status == "crash"
    assert report.summary("en") == "Ready, with 2 notes. Checks made: 3."
    data = report.to_json()
    assert data["summary"]["status"] == "warning"
    assert [(finding["id"], finding["severity"]) for finding in data["findings"]] == [
        ("net.port", "warning"),
        ("disk.free", "warning"),
    ]


LOW = Finding("warning", "low", {"folder": "/tmp", "free": 0.1}, id="tmp.free", family="machine")
FULL = Finding("error", "full", {"folder": "/home", "free": 0.1}, id="disk.free", family="machine")
LEFT = Finding("warning", "foreign", {"count": 1, "pids": "9"}, id="proc.stale", family="leftovers")
FINE = Finding("ok", "ok", {"free": "1.0 GiB", "total": "2.0 GiB"}, id="ram.free", family="machine")
PROCESS = StaleProcess("", Identity("", 9, 1), "foreign_orphan", "", 60.0, values={"folder": "/srv"})


@pytest.mark.parametrize(
    ("results", "stale", "en", "zh"),
    [
        ((FINE,), (), "Everything is fine: one check", "一切正常"),
        ((FINE, LOW), (), "Ready, with 1 note.", "就绪，有 1 条提示。"),
        ((LOW, LEFT), (PROCESS,), "Ready, with 2 notes.", "就绪，有 2 条提示。"),
        ((LEFT,), (PROCESS,), "Ready, with 1 note.", "就绪，有 1 条提示。"),
        ((LOW, FULL), (PROCESS,), "1 thing needs you.", "有 1 个问题需要处理。"),
        ((FULL, FULL), (), "2 things need you.", "有 2 个问题需要处理。"),
    ],
)
def test_only_errors_need_somebody(results: Any, stale: Any, en: str, zh: str) -> None:
    report = Report(results, (), stale, 1.0)
    assert report.summary("en").startswith(en)
    assert report.to_json("zh")["summary"]["text"].startswith(zh)


def test_checks_share_what_they_find_out() -> None:
    asked = []

    def question() -> int:
        asked.append(1)
        return 5

    probes = Probes()
    threads = [threading.Thread(target=probes.ask, args=(question,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert probes.ask(question) == 5
    assert asked == [1]


def test_results_of_one_check_are_told_apart_by_their_subject() -> None:
    result = Finding("ok", "ok", {"port": 29400}, subject="29400", id="net.port", family="network")
    assert (result.key, result.title("en")) == ("net.port:29400", "Port · 29400")


# --- Words -----------------------------------------------------------------------------------------------------------


def test_every_check_has_a_title_and_every_family_a_name() -> None:
    assert [check.id for check in CHECKS for part in ("title", "about") if not has(f"doctor.{check.id}.{part}")] == []
    assert {check.family for check in CHECKS} <= set(FAMILIES)
    assert [family for family in FAMILIES if not has(f"doctor.family.{family}")] == []


def test_every_case_in_the_code_has_words_and_every_word_a_case() -> None:
    used = {module: constants(module) for module in {check.function.__module__ for check in CHECKS}}
    for check in CHECKS:
        cases = {key.split(".")[-2] for key in words("en") if key.startswith(f"doctor.{check.id}.") and "." in key[7:]}
        cases.discard(check.id.rpartition(".")[2])  # the title
        assert cases <= used[check.function.__module__], check.id
        for case in cases:
            parts = {part for part in ("fact", "what", "why", "fix") if has(f"doctor.{check.id}.{case}.{part}")}
            assert parts in ({"fact"}, {"fact", "what", "why", "fix"}), (check.id, case)


def constants(module: str) -> set[str]:
    tree = ast.parse(Path(sys.modules[module].__file__ or "").read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
