"""The checks, on the real machine and with real broken things: a taken port, a torch that does not start, a fake driver."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from glmstudio.doctor import Gpu, diagnose, diagnosis, machine, network, pytorch
from glmstudio.doctor import card as card_checks
from glmstudio.doctor.card import Cards
from glmstudio.doctor.checks import CHECKS, Check, Probes, found
from glmstudio.doctor.report import Result
from glmstudio.runs.process import COOKIE, free_port
from glmstudio.words import LANGUAGES, has
from tests.fakes.nvml import FakeDriver

V100 = Gpu(0, "Tesla V100", "GPU-1", 32768, 32000, 30, (), (7, 0))
TORCH = {"version": "2.13.0+cu126", "cuda": "12.6", "available": True, "count": 1, "architectures": ["sm_70", "sm_80"]}


def one(name: str) -> Result:
    (result,) = diagnose(only=[name]).results
    return result


# --- The report ------------------------------------------------------------------------------------------------------


def test_a_healthy_machine_has_no_findings(home: Path) -> None:
    report = diagnose()
    others = ("processes", "port.29400", "port.29500")  # what another training does here is no fault of this machine
    assert [
        result.id for result in report.results if result.status not in ("ok", "info") and result.id not in others
    ] == []
    assert {result.id for result in report.results} == {
        "python", "packages", "torch", "gpu", "port.29400", "port.29500", "hostname", "proxy", "environment", "disk",
        "memory", "processes",
    }  # fmt: skip


def test_the_second_look_takes_no_torch_and_little_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnose()
    monkeypatch.setattr(pytorch, "ask_torch", lambda: pytest.fail("PyTorch was asked again"))
    report = diagnose()
    assert next(result for result in report.results if result.id == "torch").status == "ok"
    assert report.seconds < 5


def test_the_form_of_the_json_is_kept(home: Path) -> None:
    data = json.loads(json.dumps(diagnose().to_json("zh")))
    assert set(data) == {"schema", "status", "seconds", "results", "gpus", "stale"}
    assert data["schema"] == 1
    for result in data["results"]:
        assert set(result) == {"id", "family", "status", "case", "title", "fact", "what", "why", "fix", "values"}
        assert result["title"]
        assert result["fact"]


def test_the_doctor_does_not_load_torch_or_gradio() -> None:
    code = "import sys, glmstudio.doctor; print([m for m in ('torch', 'transformers', 'gradio') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_only_some_checks_can_be_asked_for(home: Path) -> None:
    assert [result.id for result in diagnose(only=["port"]).results] == ["port.29400", "port.29500"]
    assert [result.id for result in diagnose(only=["disk", "python"]).results] == ["disk", "python"]
    assert diagnose(only=[]).results == ()


def test_a_check_that_breaks_or_hangs_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def breaks(_: Probes) -> Any:
        raise RuntimeError("no luck")

    def hangs(_: Probes) -> Any:
        ended.wait(30)

    checks = [
        Check("disk", "machine", 5, breaks),
        Check("port.29400", "network", 0.1, hangs),
        Check("memory", "machine", 5, lambda _: found("ok", "ok", free=1.0, total=2.0)),
    ]
    monkeypatch.setattr(diagnosis, "CHECKS", checks)
    report = diagnose()
    ended.set()
    assert [(result.status, result.fact("en")) for result in report.results] == [
        ("crash", "The check itself failed: RuntimeError: no luck"),
        ("crash", "No answer within 0 seconds."),
        ("ok", "1.0 of 2.0 GB free"),
    ]
    assert report.results[0].what("en") == "A check could not be finished: RuntimeError: no luck"
    assert report.results[1].title("zh") == "端口 29400"
    assert report.status == "crash"
    assert report.seconds < 5


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


def test_every_case_of_every_check_has_its_words() -> None:
    groups = {check.id.partition(".")[0] for check in CHECKS}
    cases = _cases_in_the_code()
    assert set(cases) == groups
    for group, statuses in cases.items():
        assert has(f"doctor.{group}.title")
        for status, case in statuses:
            assert has(f"doctor.{group}.{case}.fact"), (group, case)
            if status in ("warning", "error"):
                assert all(has(f"doctor.{group}.{case}.{part}") for part in ("what", "why", "fix")), (group, case)
    assert {f"doctor.family.{check.family}" for check in CHECKS} == {key for key in _keys("doctor.family.") if has(key)}


def _keys(prefix: str) -> list[str]:
    from glmstudio.words import words

    return [key for key in words("en") if key.startswith(prefix)]


def _cases_in_the_code() -> dict[str, set[tuple[str, str]]]:
    """Every `found("status", "case")` of a check's file, given to the checks whose words have that case."""
    cases: dict[str, set[tuple[str, str]]] = {check.id.partition(".")[0]: set() for check in CHECKS}
    for check in CHECKS:
        source = ast.parse(Path(sys.modules[check.function.__module__].__file__ or "").read_text(encoding="utf-8"))
        helpers = {"port": "_port", "hostname": "_judge_names", "torch": "_judge"}
        group = check.id.partition(".")[0]
        wanted = {check.function.__name__, helpers.get(group)}
        for function in (node for node in source.body if isinstance(node, ast.FunctionDef) and node.name in wanted):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                if isinstance(call.func, ast.Name) and call.func.id == "found":
                    statuses, names = (
                        [
                            leaf.value
                            for leaf in ast.walk(argument)
                            if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)
                        ]
                        or [None]
                        for argument in call.args[:2]
                    )
                    cases[group] |= {
                        (status, name)
                        for status in statuses
                        for name in names
                        if status and name and name != "localhost"
                    }
    return cases


# --- Python and PyTorch ----------------------------------------------------------------------------------------------


def test_an_unfit_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 1, "final", 0))
    result = one("python")
    assert result.status == "error"
    assert result.what("en") == "The studio runs on Python 3.14.1, which its packages do not support."


def test_missing_and_unfit_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# a comment\npsutil>=999  # why\nno-such-package\ntomli; python_version < '3'\npytest\n")
    monkeypatch.setattr(pytorch, "_requirements", lambda read=pytorch._requirements: read(file))
    result = one("packages")
    assert result.status == "error"
    assert result.fact("en") == f"Missing or unfit: psutil {_version('psutil')} (>=999); no-such-package"


def _version(name: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(name)


def test_a_torch_that_does_not_start(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = one("torch")
    assert result.status == "error"
    assert result.what("en") == (
        "PyTorch is installed but does not start: ImportError: libcudart.so.12: cannot open shared object file"
    )


def test_a_torch_that_takes_too_long(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(pytorch, "ask_torch", lambda ask=pytorch.ask_torch: ask(limit=0.5))
    assert one("torch").case == "slow"


def test_a_missing_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch.importlib.util, "find_spec", lambda name: None)
    assert one("torch").case == "missing"


@pytest.mark.parametrize(
    ("torch", "gpus", "status", "case"),
    [
        ({}, (), "ok", "processor"),
        ({}, (V100,), "ok", "ok"),
        ({"cuda": None, "available": False}, (V100,), "error", "processor_only"),
        ({"available": False, "count": 0}, (V100,), "error", "no_access"),
        ({"architectures": ["sm_75", "sm_80", "sm_90"]}, (V100,), "error", "no_code"),
    ],
)
def test_torch_must_fit_the_cards(torch: dict[str, Any], gpus: tuple[Gpu, ...], status: str, case: str) -> None:
    judged = pytorch._judge({**TORCH, **torch}, Cards(gpus, "515.105.01"))
    assert (judged.status, judged.case) == (status, case)
    result = Result("torch", "pytorch", judged.status, judged.case, judged.values)
    assert all(result.fact(lang) for lang in LANGUAGES)


def test_hidden_cards_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pytorch._judge({**TORCH, "available": False}, Cards((V100,), "580")).case == "hidden"


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((7, 0), ["sm_70"], True),
        ((8, 9), ["sm_80", "sm_86"], True),
        ((7, 0), ["sm_75", "sm_80"], False),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((12, 0), ["sm_120"], True),
        ((9, 0), ["sm_90a"], True),
        ((7, 0), [], False),
    ],
)
def test_code_for_a_card(capability: tuple[int, int], architectures: list[str], runs: bool) -> None:
    assert pytorch.has_code_for(capability, architectures) is runs


# --- Graphics card ---------------------------------------------------------------------------------------------------

SHOW = """
import json, sys
from glmstudio.doctor import card, diagnose
card._sees_the_drivers_processes = lambda: sys.argv[1] == "host"
print(json.dumps(diagnose(only=["gpu"]).to_json()))
"""


def show_cards(driver: FakeDriver, text: str, *, where: str = "host") -> dict[str, Any]:
    environment = {**os.environ, **driver.environment(text)}
    answer = subprocess.run(
        [sys.executable, "-c", SHOW, where],
        env=environment,
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    data: dict[str, Any] = json.loads(answer.stdout)
    return data


def test_cards_and_who_uses_them(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path)
    text = f"driver=580.65.06 cuda=13000 v2=1\nTesla V100|32768|1024|50|41|1|1|{os.getpid()}:700\nTesla V100|32768|0|0|30|1|1|\n"
    data = show_cards(driver, text)
    user = data["gpus"][0]["processes"][0].pop("user")
    assert user
    assert data["gpus"] == [
        {
            "index": 0, "name": "Tesla V100", "uuid": "GPU-fake-0000", "total_mib": 32768, "free_mib": 31444,
            "temperature_c": 41, "processes": [{"pid": os.getpid(), "name": _own_name(), "used_mib": 700}],
            "capability": [7, 0],
        },
        {
            "index": 1, "name": "Tesla V100", "uuid": "GPU-fake-0001", "total_mib": 32768, "free_mib": 32468,
            "temperature_c": 30, "processes": [], "capability": [7, 0],
        },
    ]  # fmt: skip
    assert data["results"][0]["fact"] == "Tesla V100 (30.7 / 32.0 GB), Tesla V100 (31.7 / 32.0 GB), driver 580.65.06"


def _own_name() -> str:
    return Path("/proc/self/comm").read_text().strip()


def test_an_old_driver_without_the_second_memory_version(tmp_path: Path) -> None:
    data = show_cards(FakeDriver(tmp_path), "driver=470.57.02 cuda=11040\nTesla V100|32768|1024|50|41|1|1|\n")
    assert data["gpus"][0]["free_mib"] == 31744


def test_in_a_container_a_number_of_the_host_is_not_taken_for_a_process_here(tmp_path: Path) -> None:
    text = f"driver=580.65.06 cuda=13000\nTesla V100|32768|1024|50|41|1|1|{os.getpid()}:700\n"
    data = show_cards(FakeDriver(tmp_path), text, where="container")
    assert data["gpus"][0]["processes"] == [{"pid": os.getpid(), "name": "host-program", "user": "", "used_mib": 700}]


@pytest.mark.parametrize(
    ("text", "status", "case"),
    [
        ("error=18\n", "error", "restart"),
        ("error=999\n", "error", "unreadable"),
        ("driver=580.65.06 cuda=13000\n", "info", "empty"),
    ],
)
def test_a_driver_in_trouble(text: str, status: str, case: str, tmp_path: Path) -> None:
    (result,) = show_cards(FakeDriver(tmp_path), text)["results"]
    assert (result["status"], result["case"]) == (status, case)


@pytest.mark.parametrize(
    ("problem", "on_bus", "in_container", "status", "case"),
    [
        ("LibraryNotFound", False, False, "info", "none"),
        ("LibraryNotFound", True, True, "info", "none"),
        ("LibraryNotFound", True, False, "warning", "no_driver"),
        ("DriverNotLoaded", True, False, "error", "no_driver"),
    ],
)
def test_no_driver(
    problem: str, on_bus: bool, in_container: bool, status: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_checks, "read_cards", lambda: Cards(problem=problem))
    monkeypatch.setattr(card_checks, "_card_on_bus", lambda: on_bus)
    monkeypatch.setattr(card_checks, "_in_container", lambda: in_container)
    result = one("gpu")
    assert (result.status, result.case) == (status, case)


# --- Network ---------------------------------------------------------------------------------------------------------

LISTEN = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print(flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize("port", [29400, 29500])
def test_a_taken_port_names_its_owner(port: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        result = one(f"port.{port}")
        assert result.status == "warning"
        assert result.values["pid"] == owner.pid
        assert result.fact("en") == f"Port {port} is used by {result.values['name']} (process {owner.pid})."
        owner.communicate()
    assert one(f"port.{port}").status == "ok"


def test_a_port_of_our_own_run_is_no_finding() -> None:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, COOKIE: "some-run"},
    ) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        judged = network._port(port)
        assert (judged.status, judged.case) == ("info", "ours")
        owner.communicate()


def test_names_are_looked_up_as_torch_does() -> None:
    (local,) = network.ask_names("localhost") or []
    assert local["local"]
    answers = network.ask_names("no-such-machine.invalid")
    judged = network._judge_names(answers)
    assert (judged.status, judged.case) == ("warning", "unresolved")
    assert judged.values["name"] == "no-such-machine.invalid"
    assert judged.values["code"] < 0


@pytest.mark.parametrize(
    ("answers", "case"),
    [
        (None, "slow"),
        ([{"name": "nlp", "addresses": ["10.0.0.9"], "local": False, "code": None, "seconds": 0.1}], "elsewhere"),
        ([{"name": "localhost", "addresses": [], "local": False, "code": -2, "seconds": 0.1}], "no_localhost"),
        ([{"name": "nlp", "addresses": ["127.0.1.1"], "local": True, "code": None, "seconds": 3.5}], "slow"),
    ],
)
def test_names_that_make_other_tools_hang(answers: Any, case: str) -> None:
    judged = network._judge_names(answers)
    assert (judged.status, judged.case) == ("warning", case)


def test_an_address_of_another_machine_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = network._judge_names(network.ask_names("192.0.2.7"))
    assert (judged.case, judged.values["address"]) == ("elsewhere", "192.0.2.7")


def test_a_proxy_that_catches_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    assert one("proxy").case == "ok"
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy.example:3128")
    result = one("proxy")
    assert (result.status, result.case) == ("info", "caught")
    assert "secret" not in json.dumps(result.to_json("en"))
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert one("proxy").case == "exempt"


def test_settings_of_another_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    result = one("environment")
    assert result.status == "warning"
    assert result.fact("en") == "Still set: RANK TORCHELASTIC_RUN_ID"


# --- Machine ---------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMSTUDIO_HOME", "/proc/studio")
    result = one("disk")
    assert (result.status, result.case) == ("error", "not_writable")


@pytest.mark.parametrize(("free", "status"), [(400, "error"), (1500, "warning"), (5000, "ok")])
def test_little_disk(free: int, status: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": free * 1_000_000})())
    assert one("disk").status == status
    assert not home.exists()


def test_the_memory_limit_of_a_container_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    inner = tmp_path / "v2" / "outer" / "inner"
    inner.mkdir(parents=True)
    own.write_text("0::/outer/inner\n")
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("4000000000\n")
    (inner.parent / "memory.current").write_text("3000000000\n")
    (inner.parent / "memory.stat").write_text("anon 1\ninactive_file 500000000\n")
    assert machine._cgroup_memory(tmp_path / "v2", own) == (4_000_000_000, 2_500_000_000)

    older = tmp_path / "v1" / "memory"
    older.mkdir(parents=True)
    own.write_text("5:cpu:/x\n4:memory:/docker/abc\n")
    (older / "memory.limit_in_bytes").write_text("2000000000\n")
    (older / "memory.usage_in_bytes").write_text("700000000\n")
    assert machine._cgroup_memory(tmp_path / "v1", own) == (2_000_000_000, 700_000_000)
    assert machine._cgroup_memory(tmp_path / "none", tmp_path / "absent") == (None, 0)


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cgroup_memory", lambda: (2_000_000_000, 1_000_000_000))
    result = one("memory")
    assert (result.status, result.case) == ("warning", "low")
    assert result.fact("en") == "Only 1.0 of 2.0 GB free"
