"""What runs learned, in every form for use elsewhere; a bundle that repeats the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glmstudio.config.presets import load_preset
from glmstudio.errors import StudioError
from glmstudio.jobs.json_child import ask
from glmstudio.paths import DEMO, ROOT
from glmstudio.rundir.run import Run, find_run, wait_for_end
from glmstudio.runs.export import export_run, forms_of
from glmstudio.runs.manage import write_note
from glmstudio.runs.start import start_run

pytestmark = pytest.mark.slow  # three short trainings come first, 22 s
SAMPLE = ROOT / "glmstudio/demo/sample.jsonl"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished run of each method."""
    home = tmp_path_factory.mktemp("home")
    data = home / "my data.jsonl"
    data.write_text("\n".join(SAMPLE.read_text(encoding="utf-8").splitlines()[:24]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMSTUDIO_HOME", str(home))
        for method, rate in (("ptuning_v2", "0.1"), ("lora", "0.01"), ("full", "0.001")):
            changes = {"method": method, "learning_rate": rate, "steps": 4, "save_every": 2, "batch_size": 4}
            run = start_run(load_preset("demo/ptuning_v2"), data=data, name=method, changes=changes)
            assert wait_for_end(run, seconds=120).state == "finished", run.log()[0][-2000:]
    return home


@pytest.fixture
def runs(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLMSTUDIO_HOME", str(trained))
    return trained


def files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("name", "form", "expected"),
    [
        ("ptuning_v2", "official", ["config.json", "pytorch_model.bin"]),
        ("ptuning_v2", "peft", ["README.md", "adapter_config.json", "adapter_model.safetensors"]),
        ("lora", "peft", ["README.md", "adapter_config.json", "adapter_model.safetensors"]),
        ("lora", "merged", ["config.json", "model.safetensors", "tokenizer.model"]),
        ("full", "merged", ["config.json", "model.safetensors", "tokenizer.model"]),
    ],
)
def test_each_form_of_each_method(runs: Path, tmp_path: Path, name: str, form: str, expected: list[str]) -> None:
    target = tmp_path / "a folder" / form
    assert export_run(find_run(name), form, target, step=2) == target
    assert files(target) == expected
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in target.iterdir()), "others may read it"
    with pytest.raises(StudioError, match="already exists"):
        export_run(find_run(name), form, target)
    assert list(target.parent.iterdir()) == [target], "nothing half-written is left"


def test_forms_and_steps_that_there_are_not(runs: Path, tmp_path: Path) -> None:
    assert [forms_of(find_run(name)) for name in ("ptuning_v2", "lora", "full")] == [
        ("official", "peft", "bundle"),
        ("native", "gguf", "peft", "gguf-lora", "merged", "bundle"),
        ("native", "gguf", "merged", "bundle"),
    ]
    with pytest.raises(StudioError) as caught:
        export_run(find_run("ptuning_v2"), "merged", tmp_path / "x")
    assert caught.value.what() == (
        "The result of the run ptuning_v2 cannot be exported as “merged”; available: official, peft, bundle."
    )
    with pytest.raises(StudioError, match=r"learned a prefix .*, which cannot be exported as native.* Train with LoRA"):
        export_run(find_run("ptuning_v2"), "native", tmp_path / "x")
    with pytest.raises(StudioError, match="has no complete checkpoint at step 3; available: 2, 4"):
        export_run(find_run("lora"), "peft", tmp_path / "x", step=3)
    assert not (tmp_path / "x").exists()


def test_a_child_that_says_nothing_of_use_is_told() -> None:
    with pytest.raises(StudioError, match="The export failed: "):
        ask("glmstudio.jobs.json_child", broke="runs.export_broke")
    with pytest.raises(StudioError, match="No module named"):
        ask("glmstudio.nowhere", broke="runs.export_broke")


def test_a_bundle_repeats_the_run(runs: Path, tmp_path: Path) -> None:
    run = find_run("lora")
    write_note(run, "for a colleague")
    bundle = export_run(run, "bundle", tmp_path / "bundle")
    assert files(bundle) == [
        "README.md", "data.json", "environment.json", "loss.svg", "metrics.jsonl", "notes.json", "preset.toml",
        "records.json", "result/adapter.json", "result/adapter_config.json", "result/adapter_model.safetensors",
        "samples.jsonl",
    ]  # fmt: skip
    readme = (bundle / "README.md").read_text(encoding="utf-8")
    told = json.loads((bundle / "data.json").read_text())
    assert told["name"] == "my data.jsonl"
    assert told["sha256"] in readme
    assert str(runs) not in "".join((bundle / name).read_text() for name in ("README.md", "preset.toml", "data.json"))
    assert "torch" in json.loads((bundle / "environment.json").read_text())["packages"]
    data = tmp_path / "elsewhere.jsonl"
    shutil.copyfile(runs / "my data.jsonl", data)
    again = start_run(load_preset(str(bundle / "preset.toml")), data=data, name="again")
    assert wait_for_end(again, seconds=120).state == "finished"
    assert losses(again) == losses(run)


def losses(run: Run) -> list[float]:
    return [row["loss"] for row in run.metrics()[0] if "loss" in row]


def test_the_export_as_a_command(runs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "glmstudio", "runs", "export", "full", "--to", "merged", str(tmp_path / "m")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"Exported to {tmp_path / 'm'}.\n"), done.stderr
    assert (tmp_path / "m/tokenizer.model").read_bytes() == (DEMO / "model/tokenizer.model").read_bytes()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr.startswith(f"error: {tmp_path / 'm'} already exists.")


@pytest.mark.rare
def test_warm_start_goes_on_from_what_was_learned(runs: Path, tmp_path: Path) -> None:
    official = export_run(find_run("ptuning_v2"), "official", tmp_path / "official")
    changes = {"steps": 1, "batch_size": 4, "learning_rate": "1e-9", "prefix_dropout": 0}
    data = runs / "my data.jsonl"
    fresh = start_run(load_preset("demo/ptuning_v2"), data=data, name="fresh", changes=changes)
    assert wait_for_end(fresh, seconds=90).state == "finished"
    warm = []
    for index, source in enumerate(("ptuning_v2", str(official))):
        run = start_run(
            load_preset("demo/ptuning_v2"), data=data, name=f"warm{index}", changes=changes | {"warm_start": source}
        )
        assert wait_for_end(run, seconds=90).state == "finished", run.log()[0][-2000:]
        warm.append(losses(run)[0])
    assert warm[0] == pytest.approx(warm[1], rel=1e-6)
    assert abs(warm[0] - losses(fresh)[0]) > 1e-3
    with pytest.raises(StudioError, match="cannot be trained further with this method"):
        start_run(load_preset("demo/lora"), data=data, name="no", changes={"warm_start": "ptuning_v2"})
    with pytest.raises(StudioError, match="There is no fine-tuned model at /no/such"):
        start_run(load_preset("demo/lora"), data=data, name="no", changes={"warm_start": "/no/such"})
