"""`launcher.py bench`: what a child measures, what follows from it, and what a person reads."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from glmstudio.cli.bench import report
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.models import list_models
from glmstudio.planning import machine_bench as benches
from glmstudio.planning.expectation import expect, verdict
from glmstudio.planning.machine_bench import STAGES, BenchRequest, MeasuredMachine, candidates, last, measure
from glmstudio.planning.memory_fit import KNOWN, DeviceMemory
from glmstudio.planning.model_shape import ModelShape
from glmstudio.rundir.run import Run
from glmstudio.train.measuring import layer_timing
from glmstudio.train.measuring.measure import disk
from tests.waiting import until

ROOT = Path(__file__).parents[1]
SMALL = ModelShape(layers=2, hidden=32, ffn=64, heads=4, groups=2, head_dim=8, vocab=96)
SIX_BILLION = KNOWN["chatglm3-6b"]
DEMO = {"layers": 4, "scaled": False, "prompt": 0.01, "head": 0.01, "token": {"16": 0.001, "8": None, "4": None}}
# Round numbers: what follows from them can be checked by hand.
FOUND: dict[str, Any] = {
    "device": "cuda", "dtype": "bfloat16", "torch": "2.13.0", "product": 100.0, "stream": 1000.0, "place": 10.0, "product_again": 90.0,
    "disk": {"speed": 2.0, "cached": False, "temporary": True},
    "models": {
        "chatglm3-6b": {
            "layers": 4, "scaled": False, "prompt": 0.0005, "head": 0.004,
            "training": {"ptuning_v2": {"1050": 0.002, "2048": 0.004}, "lora": {"1050": 0.003, "2048": 0.006}},
            "token": {"16": 0.0004, "8": 0.0002, "4": None},
        },
        "demo": DEMO | {"training": {"ptuning_v2": {"1050": 0.06}, "lora": {"1050": 0.05}}},
    },
}  # fmt: skip
ON_THE_CPU = FOUND | {"device": "cpu", "dtype": "float32", "stream": 10.0}


def card(gigabytes: float) -> DeviceMemory:
    return DeviceMemory("GPU-1", "Card", int(gigabytes * 1e9), int(gigabytes * 1e9))


def memory(gigabytes: float) -> DeviceMemory:
    return DeviceMemory("cpu", "", int(gigabytes * 1e9), int(gigabytes * 1e9))


def ask(folder: Path, **more: Any) -> BenchRequest:
    return BenchRequest(
        **{"device": "cpu", "shapes": {"small": SMALL}, "weights": None, "folder": folder, "seconds": 0.02,
           "disk_bytes": 48 << 20, "tokens": (40, 60), "prompt": 30, "learned": 6} | more
    )  # fmt: skip


def keep(home: Path, found: dict[str, Any], place: DeviceMemory, name: str = "Card") -> None:
    machine = MeasuredMachine(name, "A Processor", 8, 64_000_000_000)
    write_json(
        home / "state" / "bench.json",
        {"version": 1, "time": 1.8e9, "seconds": 31.4, "machine": dataclasses.asdict(machine),
         "place": dataclasses.asdict(place), "found": found},
    )  # fmt: skip


def run(*words: str, home: Path, lang: str = "C.UTF-8", **more: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"LC_ALL": lang, "GLMSTUDIO_HOME": str(home), "TZ": "UTC"} | more
    return subprocess.run(
        [sys.executable, "-m", "glmstudio", "bench", *words], cwd=ROOT, env=env, capture_output=True, text=True
    )


# What a child measures.


@pytest.mark.slow  # 10 s
def test_a_child_measures_all_of_it_and_leaves_nothing_on_the_disk(home: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    folder = tmp_path / "models"
    folder.mkdir()
    found = measure(ask(folder), lambda stage, left: told.append((stage, left)))
    assert (found["device"], found["dtype"]) == ("cpu", "float32")
    assert list(found) == ["device", "dtype", "torch", "product", "stream", "place", "disk", "models", "product_again"]
    assert 0.0005 < found["product"] < 50
    assert 0.5 < found["stream"] < 5000
    assert 0.05 < found["place"] < 500
    assert 0.01 < found["disk"]["speed"] < 500
    assert found["disk"]["temporary"] is True
    small = found["models"]["small"]
    assert (small["layers"], small["scaled"]) == (2, False)
    assert set(small["training"]) == {"ptuning_v2", "lora"}
    assert set(small["token"]) == {"16", "8", "4"}
    times = [
        small["prompt"],
        small["head"],
        small["token"]["16"],
        *(each[length] for each in small["training"].values() for length in ("40", "60")),
    ]
    assert all(1e-6 < each < 5 for each in times)
    assert {stage for stage, _ in told} <= set(STAGES)
    assert told[0] == ("start", 75.0)
    assert all(left >= 0 for _, left in told)
    assert list(folder.iterdir()) == []


@pytest.mark.slow  # 7 s
def test_a_child_that_breaks_says_where_and_why(tmp_path: Path) -> None:
    without = dataclasses.replace(SMALL, heads=3)  # three heads cannot share two groups
    with pytest.raises(StudioError) as error:
        measure(ask(tmp_path, shapes={"small": without}), lambda *_: None)
    assert error.value.key == "bench.broke"
    assert error.value.what().startswith("The measurement failed (answers): ")
    assert error.value.what("zh").startswith("测量中断（回答）：")


@pytest.mark.slow
def test_a_child_that_is_killed_is_said_with_a_remedy(tmp_path: Path) -> None:
    def kill(stage: str, _left: float) -> None:
        if stage != "start":
            for child in psutil.Process().children():
                child.kill()

    with pytest.raises(StudioError) as error:
        measure(ask(tmp_path, seconds=0.5), kill)
    assert error.value.key == "bench.killed"
    assert str(error.value).endswith("because the memory was full. Close other programs, and measure again.")


def test_without_pytorch_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StudioError) as error:
        measure(ask(tmp_path), lambda *_: None)
    assert str(error.value) == (
        "PyTorch is not installed, and the measurement needs it. Run `python launcher.py doctor --fix`."
    )


def test_a_measurement_beside_a_run_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "run_on", lambda device: Run("first", home))
    with pytest.raises(StudioError) as error:
        benches.bench()
    assert error.value.what() == (
        "The run first is training there; measuring at the same time would slow it down and give wrong results."
    )


def test_an_interrupt_ends_the_child_and_keeps_nothing(home: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "glmstudio", "bench"],
        cwd=ROOT,
        env=os.environ | {"GLMSTUDIO_HOME": str(home), "LC_ALL": "C.UTF-8", "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        children = until(psutil.Process(parent.pid).children)
        assert len(children) == 1
        parent.send_signal(signal.SIGINT)
        _, said = parent.communicate(timeout=20)
    assert parent.returncode == 130
    assert said.splitlines()[-1] == "The measurement was stopped. Nothing was saved."
    assert psutil.wait_procs(children, timeout=20)[1] == []  # on a busy machine the kernel takes a moment to end it
    assert list(tmp_path.glob("glmstudio-bench-*")) == []
    assert not (home / "state" / "bench.json").exists()


# What is measured where memory is short.


def small_bench(free: float, flops: float = 1e12) -> layer_timing.LayerBench:
    return layer_timing.LayerBench(layer_timing.torch.device("cpu"), layer_timing.torch.float32, int(free), flops, 0.01)


@pytest.mark.parametrize(
    ("free", "hidden", "factor"), [(8e9, 4096, 1.0), (1.4e9, 2048, 3.975), (0.6e9, 1024, 15.84)]
)  # fmt: skip
def test_of_a_large_model_as_much_is_measured_as_the_memory_holds(free: float, hidden: int, factor: float) -> None:
    part = layer_timing.choose_part(SIX_BILLION, 1050, small_bench(free), 60)
    assert part is not None
    assert (part.shape.layers, part.shape.hidden) == (1, hidden)
    assert part.factor == pytest.approx(factor, rel=0.01)


def test_a_slow_machine_measures_less_and_a_full_one_nothing() -> None:
    slow = layer_timing.choose_part(SIX_BILLION, 1050, small_bench(20e9, flops=3e10), 60)
    assert slow is not None
    assert slow.shape.hidden == 2048
    assert layer_timing.choose_part(SIX_BILLION, 1050, small_bench(0.05e9), 60) is None


def test_a_small_model_is_measured_whole() -> None:
    part = layer_timing.choose_part(SMALL, 1050, small_bench(8e9), 60)
    assert part == layer_timing.LayerPart(dataclasses.replace(SMALL, vocab=64), 1.0)


def test_numbers_that_are_none_are_not_measured() -> None:
    model = layer_timing.random_model(SMALL, small_bench(8e9))
    with layer_timing.torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(StudioError) as error:
        layer_timing.prompt_seconds(model, 8, small_bench(8e9))
    assert error.value.key == "bench.unsound"


def test_the_numbers_of_a_random_model_are_ordinary() -> None:
    model = layer_timing.random_model(SMALL, small_bench(8e9))
    for name, each in model.named_parameters():
        if each.dim() == 2:
            assert 0.015 < float(each.std()) < 0.025, name
        else:
            assert set(each.tolist()) == {1.0 if "norm" in name else 0.0}, name


def test_a_file_of_weights_is_read_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(os.urandom(20 << 20))
    before = file.stat().st_mtime_ns
    found = disk(file, tmp_path, 1 << 30)
    assert found["temporary"] is False
    assert found["speed"] > 0.01
    assert (file.stat().st_mtime_ns, [each.name for each in tmp_path.iterdir()]) == (before, ["model.safetensors"])
    assert disk(None, tmp_path / "nowhere", 1 << 30) == {"speed": None, "cached": None, "temporary": True}


# What follows from it.


def test_the_arithmetic_is_that_of_the_documentation(home: Path) -> None:
    six = expect(candidates()[0], FOUND, card(48))
    prefix, lora, full = six.tuning
    seconds = 28 * 0.002 + 0.004
    assert prefix.tokens_per_second == pytest.approx(1050 / (seconds * 1.05))
    assert prefix.hours == pytest.approx(4048 * seconds * 1.05 / 3600)
    assert (prefix.fits, prefix.checkpointing, prefix.remedy) == (True, False, {})
    assert lora.tokens_per_second == pytest.approx(1050 / ((28 * 0.003 + 0.004) * 1.05))
    adam = 28 * 6_243_584_000 / 1e12 / 16
    twice = 28 * 0.0005 * 1.05  # it does not fit, and would need the layers computed twice at the very least
    assert full.tokens_per_second == pytest.approx(1050 / ((1.5 * seconds + twice + adam) * 1.05))
    assert (full.fits, full.remedy) == (False, {})
    head = 2 * 65024 * 4096 / 1e12
    assert [each.tokens_per_second for each in six.chatting] == [
        pytest.approx(1 / (28 * 0.0004 + head)), pytest.approx(1 / (28 * 0.0002 + head)), None,
    ]  # fmt: skip
    assert six.chatting[0].first_token_s == pytest.approx(28 * 0.0005 + head)
    assert six.load_s == pytest.approx(12.488282 / 2 + 12.488282 / 10)


def test_layers_that_are_computed_twice_take_a_forward_pass_more(home: Path) -> None:
    prefix = expect(candidates()[0], FOUND, card(16)).tuning[0]
    assert prefix.checkpointing
    assert prefix.fits
    assert prefix.tokens_per_second == pytest.approx(1050 / ((28 * 0.002 + 0.004 + 20 * 0.0005 * 1.05) * 1.05))


def test_what_was_not_measured_is_left_open(home: Path) -> None:
    without = FOUND | {"models": {"chatglm3-6b": {}, "demo": DEMO}, "disk": {"speed": None, "cached": None}}
    six, *_, demo = (expect(each, without, card(48)) for each in candidates())
    assert [each.tokens_per_second for each in (*six.tuning, *six.chatting, *demo.tuning)] == [None] * 9
    assert six.load_s is None


@pytest.mark.parametrize(
    ("found", "place", "key", "command"),
    [
        (FOUND, card(24), "tune", "python launcher.py models download chatglm3-6b"),
        (FOUND, card(9), "tune", "python launcher.py models download chatglm3-6b"),
        (FOUND, memory(8), "small", "python launcher.py train demo/ptuning_v2"),
        (ON_THE_CPU, memory(26.5), "chat", "python launcher.py models download chatglm3-6b"),
    ],
)
def test_the_verdict_names_the_next_step(
    home: Path, found: dict[str, Any], place: DeviceMemory, key: str, command: str
) -> None:
    said = verdict(tuple(expect(each, found, place) for each in candidates()))
    assert (said.key, said.command) == (key, command)


def test_a_model_that_is_here_is_tuned_next_with_what_makes_it_fit(home: Path) -> None:
    here = [dataclasses.replace(each, here=each.name != "chatglm3-6b-base") for each in candidates()]
    wide = verdict(tuple(expect(each, FOUND, card(24)) for each in here))
    assert wide.command == "python launcher.py train chatglm3-6b/ptuning_v2 --data FILE"
    tight = verdict(tuple(expect(each, FOUND, card(9)) for each in here))
    assert tight.command == (
        "python launcher.py train chatglm3-6b/ptuning_v2 --data FILE --set gradient_checkpointing=on --set base_bits=4"
    )


def test_days_of_waiting_are_said(home: Path) -> None:
    slow = json.loads(json.dumps(ON_THE_CPU))
    slow["models"]["chatglm3-6b"]["training"] = {"ptuning_v2": {"1050": 7.0}, "lora": {"1050": 6.0}}
    slow["models"]["chatglm3-6b"]["token"] = {"16": 0.5, "8": None, "4": None}
    said = verdict(tuple(expect(each, slow, memory(64)) for each in candidates()))
    assert said.key == "slow"
    assert said.values["days"] == pytest.approx(4048 * (28 * 6.0 + 0.004) * 1.05 / 86400)


# What a person and a program read.


def test_the_readable_form_is_whole(home: Path) -> None:
    keep(home, FOUND, card(24))
    done = run("--last", home=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ENGLISH


def test_the_readable_form_is_chinese_where_the_terminal_is(home: Path) -> None:
    keep(home, FOUND, card(24))
    done = run("--last", home=home, lang="zh_CN.UTF-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == CHINESE


def test_a_card_that_pytorch_cannot_use_is_said(home: Path) -> None:
    keep(home, ON_THE_CPU, memory(64))
    assert run("--last", home=home).stdout.splitlines()[1] == (
        "PyTorch could not use the GPU, so the CPU was measured. Run `python launcher.py doctor` to see why."
    )
    keep(home, ON_THE_CPU, memory(64), name="")
    lines = run("--last", home=home).stdout.splitlines()
    assert lines[:2] == [
        "Measured on 2027-01-15 08:00 in 31 s: no GPU; A Processor, 8 cores, 59.6 GiB of main memory", "",
    ]  # fmt: skip


def test_a_machine_whose_speed_changed_is_told_so(home: Path) -> None:
    keep(home, FOUND | {"product_again": 50.0}, card(24))
    assert (
        "The speed of this machine changed by a factor of 2.0 during the measurement, because of other work or "
        "heat: the results are that uncertain. Measure again when the machine is idle."
    ) in run("--last", home=home).stdout.splitlines()


def test_the_json_form_is_a_contract(home: Path) -> None:
    keep(home, FOUND, card(24))
    told = json.loads(run("--last", "--json", home=home).stdout)
    assert list(told) == ["version", "time", "seconds", "machine", "place", "measured", "expected", "verdict"]
    assert told["measured"] == FOUND
    assert [each["model"] for each in told["expected"]] == [
        "chatglm3-6b", "chatglm3-6b-base", "chatglm3-6b-32k", "demo",
    ]  # fmt: skip
    first = told["expected"][0]
    assert list(first) == ["model", "title", "here", "load_s", "tuning", "chatting"]
    assert list(first["tuning"][0]) == [
        "method", "tokens_per_second", "hours", "need", "fits", "checkpointing", "remedy",
    ]  # fmt: skip
    assert list(first["chatting"][0]) == ["bits", "tokens_per_second", "first_token_s", "need", "fits"]
    assert list(told["verdict"]) == ["key", "command", "values"]


def test_without_a_measurement_the_last_one_cannot_be_shown(home: Path) -> None:
    done = run("--last", home=home)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: This machine has not been measured yet.\n\n"
        "hint: Run `python launcher.py bench`; it takes two minutes.\n"
    )


@pytest.mark.parametrize("kept", ['{"version": 1}', '{"version": 0}', "[]", "{", '{"version": 1, "place": 3}'])
def test_a_damaged_file_is_no_measurement(home: Path, kept: str) -> None:
    (home / "state").mkdir(parents=True)
    (home / "state" / "bench.json").write_text(kept)
    with pytest.raises(StudioError) as error:
        last()
    assert error.value.key == "bench.none"


@pytest.mark.parametrize(
    ("room", "name", "value"),
    [
        ("found", "product", 0),
        ("found", "stream", 0),
        ("found", "disk", None),
        ("found", "models", {}),
        ("machine", "cores", "x"),
    ],
)
def test_a_file_with_figures_that_are_none_is_no_measurement(home: Path, room: str, name: str, value: Any) -> None:
    keep(home, FOUND, card(24))
    file = home / "state" / "bench.json"
    kept = json.loads(file.read_text())
    kept[room][name] = value
    if value is None:
        del kept[room][name]
    file.write_text(json.dumps(kept))
    with pytest.raises(StudioError) as error:
        last()
    assert error.value.key == "bench.none"


def test_what_cannot_be_written_down_is_told_all_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glmstudio.planning.machine_bench.measure", lambda *_: FOUND | {"device": "cpu"})
    monkeypatch.setattr("glmstudio.planning.machine_bench.write_json", full)
    result = benches.bench()
    assert not result.kept
    assert (
        "These results could not be saved, because the disk is full or not writable: `--last` will not show them."
    ) in report(result)


@pytest.mark.rare
def test_the_whole_command_measures_this_machine(home: Path) -> None:
    done = run("--json", home=home)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["seconds"] < 120
    assert told["expected"][-1]["tuning"][0]["tokens_per_second"] > 100
    assert json.loads(run("--last", "--json", home=home).stdout) == told


ENGLISH = """\
Measured on 2027-01-15 08:00 in 31 s: Card; A Processor, 8 cores, 59.6 GiB of main memory

Measured:
  Matrix products in bfloat16: 100.00 TFLOP/s
  Memory, as it is read for each generated token: 1,000.0 GB/s
  Weights from main memory to the device: 10.0 GB/s
  Disk with the models: 2.00 GB/s
  One layer of ChatGLM3-6B, P-Tuning v2, forward and backward over 1,050 tokens: 2.0 ms
  One layer of ChatGLM3-6B, P-Tuning v2, forward and backward over 2,048 tokens: 4.0 ms
  One layer of ChatGLM3-6B, LoRA, forward and backward over 1,050 tokens: 3.0 ms
  One layer of ChatGLM3-6B, LoRA, forward and backward over 2,048 tokens: 6.0 ms

What to expect with ChatGLM3-6B, ChatGLM3-6B-Base, ChatGLM3-6B-32K:
  P-Tuning v2: 16,667 tokens/s; 4 min 15 s for 4,048 conversations of 1,050 tokens; 17.3 GiB of memory
  LoRA: 11,364 tokens/s; 6 min 14 s for 4,048 conversations of 1,050 tokens; 20.6 GiB of memory
  full fine-tuning: does not fit; it needs 108 GiB, and 22.4 GiB are free
  Answers with bfloat16 weights: 85 tokens/s; 12.5 GiB of memory; first token of an answer to 1,000 tokens after 14.5 ms
  Answers with 8-bit weights: 163 tokens/s; 7.2 GiB of memory
  Answers with 4-bit weights: this machine does not support it, or memory was short
  Loading the weights: 7.5 s

What to expect with GLM Studio demo:
  P-Tuning v2: 4,000 tokens/s; 17 min 43 s for 4,048 conversations of 1,050 tokens; 844 MiB of memory
  LoRA: 4,762 tokens/s; 14 min 53 s for 4,048 conversations of 1,050 tokens; 924 MiB of memory
  full fine-tuning: 3,175 tokens/s; 22 min 19 s for 4,048 conversations of 1,050 tokens; 980 MiB of memory
  Answers with bfloat16 weights: 250 tokens/s; 684 MiB of memory; first token of an answer to 1,000 tokens after 40.0 ms
  Loading the weights: 2.7 ms

Single layers, the output head and the memory were measured; the figures for a whole model are calculated from them. Expect the real speed of an adapter or an answer within 25 % of it, that of full fine-tuning and of loading within 40 %, and less when other programs are running. Before a long run, use --plan: it measures with your data.

This machine is good for fine-tuning ChatGLM3-6B: one epoch over 4,048 conversations takes about 4 min 15 s.
Next: python launcher.py models download chatglm3-6b
"""
CHINESE = """\
测量于 2027-01-15 08:00，用时 31 秒：Card；A Processor，8 核，内存 59.6 GiB

测得：
  矩阵乘法（bfloat16）：100.00 TFLOP/s
  内存（生成每个词元时读取权重的方式）：1,000.0 GB/s
  权重从内存传到计算设备：10.0 GB/s
  模型所在的磁盘：2.00 GB/s
  ChatGLM3-6B 的一层，P-Tuning v2，1,050 个词元前向加反向：2.0 ms
  ChatGLM3-6B 的一层，P-Tuning v2，2,048 个词元前向加反向：4.0 ms
  ChatGLM3-6B 的一层，LoRA，1,050 个词元前向加反向：3.0 ms
  ChatGLM3-6B 的一层，LoRA，2,048 个词元前向加反向：6.0 ms

ChatGLM3-6B, ChatGLM3-6B-Base, ChatGLM3-6B-32K 的预期：
  P-Tuning v2：每秒 16,667 个词元；4,048 条各 1,050 个词元的对话需 4 分 15 秒；占用 17.3 GiB
  LoRA：每秒 11,364 个词元；4,048 条各 1,050 个词元的对话需 6 分 14 秒；占用 20.6 GiB
  全量微调：放不下，需要 108 GiB，只有 22.4 GiB
  以 bfloat16 权重回答：每秒 85 个词元；占用 12.5 GiB；读完 1,000 个词元的提问后，14.5 ms 给出第一个词元
  以 8 位权重回答：每秒 163 个词元；占用 7.2 GiB
  以 4 位权重回答：本机不支持，或内存不足
  加载权重：7.5 秒

GLM Studio demo 的预期：
  P-Tuning v2：每秒 4,000 个词元；4,048 条各 1,050 个词元的对话需 17 分 43 秒；占用 844 MiB
  LoRA：每秒 4,762 个词元；4,048 条各 1,050 个词元的对话需 14 分 53 秒；占用 924 MiB
  全量微调：每秒 3,175 个词元；4,048 条各 1,050 个词元的对话需 22 分 19 秒；占用 980 MiB
  以 bfloat16 权重回答：每秒 250 个词元；占用 684 MiB；读完 1,000 个词元的提问后，40.0 ms 给出第一个词元
  加载权重：2.7 ms

实际测量的是单层、输出层和内存；整个模型的速度由此推算。微调适配器和回答的实际速度一般相差不超过 25%，全量微调和加载不超过 40%；同时运行其他程序会更慢。长时间训练前请先加 --plan：它会用您的数据实测。

本机适合微调 ChatGLM3-6B：4,048 条对话训练一轮约需 4 分 15 秒。
下一步：python launcher.py models download chatglm3-6b
"""


def test_another_family_is_measured_once_it_is_here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [each.name for each in candidates()]
    assert first == ["chatglm3-6b", "chatglm3-6b-base", "chatglm3-6b-32k", "demo"]
    edge = SimpleNamespace(name="glm-edge-1.5b-chat", ready=True)
    here = list_models()
    monkeypatch.setattr(benches, "list_models", lambda: [*here, edge])
    found = {each.name: each for each in candidates()}
    assert found.keys() == {*first, edge.name}
    assert (found[edge.name].shape.tied, found[edge.name].key) == (True, edge.name)
