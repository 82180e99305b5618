"""Model folders with each defect made for real, on the demo's own files and on files of the real sizes."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from glmstudio.doctor import diagnose
from glmstudio.doctor.checks import model_folders
from glmstudio.doctor.engine.report import Finding
from glmstudio.models import list_models
from glmstudio.models.folder import folder_problems
from glmstudio.paths import DEMO

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d5567466e89\nsize 1827781090\n"


@pytest.fixture
def folder(home: Path) -> Path:
    """A whole model, called mine, in the studio's folder of models."""
    copied = home / "models" / "mine"
    shutil.copytree(DEMO / "model", copied)
    return copied


def broken() -> list[tuple[str, str]]:
    """The findings about model folders: the check, and what it says."""
    return [
        (finding.id, finding.what("en")) for finding in diagnose(only=["models"]).findings if finding.status == "error"
    ]


def one(name: str) -> Finding:
    (result,) = diagnose(only=[name]).results
    return result


def test_whole_models_are_a_fact(folder: Path) -> None:
    report = diagnose(only=["models"])
    assert report.findings == []
    assert next(r for r in report.results if r.id == "model.files").fact("en") == "Complete: GLM Studio demo, mine"


def test_placeholders_of_git(folder: Path) -> None:
    for name in ("model.safetensors", "tokenizer.model"):
        (folder / name).write_bytes(POINTER)
    report = diagnose(only=["model.lfs_pointer"])
    assert [finding.subject for finding in report.findings] == ["mine tokenizer.model", "mine model.safetensors"]
    first = report.to_json("en")["findings"][1]
    assert first == {
        "id": "model.lfs_pointer",
        "severity": "error",
        "what": f"The file {folder}/model.safetensors is a placeholder of {len(POINTER)} bytes; the real one was never "
        "downloaded.",
        "why": "Loading such a file fails with “invalid load key, 'v'” or “HeaderTooLarge”, which does not say what is wrong.",
        "fix": "Download this file, or run `git lfs pull` in its folder.",
    }
    assert report.findings[1].what("zh").startswith(f"文件 {folder}/model.safetensors 只是一个")


def cut(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 3 // 5])


def grow(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"x" * 100)


def lie(file: Path) -> None:
    file.write_bytes(struct.pack("<Q", 1 << 62) + file.read_bytes()[8:])


@pytest.mark.parametrize(
    "damage", [cut, grow, lie, lambda file: file.write_bytes(b""), lambda file: file.write_bytes(b"\0" * 5000)]
)
def test_cut_and_damaged_weights_are_named(damage: Any, folder: Path) -> None:
    damage(folder / "model.safetensors")
    assert broken() == [("model.shards", f"The file {folder}/model.safetensors is cut off or damaged.")]


@pytest.mark.parametrize(
    ("name", "check", "what"),
    [
        ("tokenizer.model", "model.files", "The file {folder}/tokenizer.model is missing."),
        ("model.safetensors", "model.files", "The folder {folder} has no weights: neither safetensors nor pytorch_model files are there."),
    ],
)  # fmt: skip
def test_missing_files_are_named(name: str, check: str, what: str, folder: Path) -> None:
    (folder / name).unlink()
    assert broken() == [(check, what.format(folder=folder))]


def test_a_shard_of_several_that_is_missing_and_one_that_is_cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    (folder / names[0]).write_bytes(whole)
    (folder / names[1]).write_bytes(whole[:-1])
    index = {"metadata": {"total_size": 1}, "weight_map": {str(number): name for number, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert broken() == [
        ("model.shards", f"The file {folder}/{names[1]} is cut off or damaged."),
        ("model.shards", f"The file {folder}/{names[2]} is missing."),
    ]


def test_another_kind_of_model_and_a_damaged_description(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    assert broken() == [("model.files", f"The file {folder}/config.json describes Llama (type “llama”); the studio works with ChatGLM3, GLM-4-9B, GLM-Z1-9B and GLM-Edge.")]  # fmt: skip
    (folder / "config.json").write_text("{")
    assert broken() == [("model.files", f"The file {folder}/config.json is damaged.")]
    (folder / "config.json").write_bytes(POINTER)
    assert [check for check, _ in broken()] == ["model.files"]


@pytest.mark.torch
def test_a_cut_bin_file_and_what_reading_it_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.safetensors").unlink()
    torch = pytest.importorskip("torch")
    torch.save({"x": torch.zeros(1000)}, folder / "pytorch_model.bin")
    assert broken() == []
    assert one("torch.load_bin").fact("en") == "mine: read as plain numbers, so no code hidden in them can run."
    monkeypatch.setattr(model_folders.importlib.metadata, "version", lambda name: "2.5.1+cu118")
    assert one("torch.load_bin").status == "error"
    monkeypatch.undo()
    cut(folder / "pytorch_model.bin")
    assert next(folder_problems(folder)).values == {"file": str(folder / "pytorch_model.bin")}


def test_left_over_pieces_of_a_download(folder: Path) -> None:
    (folder / "model-00002.safetensors.incomplete").write_bytes(b"x")
    result = one("model.unfinished")
    assert (result.status, result.subject, result.values["count"]) == ("info", "mine", 1)


@pytest.mark.parametrize(
    ("source", "case"),
    [
        ("class T:\n def _pad(self, a, b=None):\n  pass", "old"),
        ("class T:\n def _pad(self, a, padding_side=None):\n  pass", "new"),
        ("class T:\n def _pad(self, a, **more):\n  pass", "new"),
        ("class T: pass", "new"),
        ("def broken(:", "new"),
        ("raise SystemExit('this must never run')\n", "new"),
    ],
)
def test_a_folders_own_code_is_read_and_never_run(source: str, case: str, folder: Path) -> None:
    (folder / "tokenization_chatglm.py").write_text(source)
    assert one("model.code").case == case


def bytes_read() -> int:
    """What this process read from files so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_twelve_gigabytes_take_no_time(home: Path, folder: Path) -> None:
    """Seven shards of the real size, as files with holes."""
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00007.safetensors" for number in range(1, 8)]
    size = 1_900_000_000
    for name in names:
        header = json.dumps({"x": {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
        with (folder / name).open("wb") as stream:
            stream.write(struct.pack("<Q", len(header)) + header)
            stream.truncate(8 + len(header) + size)
    with (folder / names[4]).open("r+b") as stream:
        stream.truncate(1_100_000_000)
    index = {"weight_map": {str(number): name for number, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    before = bytes_read()
    assert broken() == [("model.shards", f"The file {folder}/{names[4]} is cut off or damaged.")]
    assert bytes_read() - before < 10e6, "the weights were read"
    assert sum(model.size_bytes for model in list_models()) > 12e9


def test_a_folder_of_placeholders_does_not_fill_the_page(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    names = [f"pytorch_model-{number:05}-of-00040.bin" for number in range(40)]
    for name in names:
        (folder / name).write_bytes(POINTER)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {name: name for name in names}}))
    assert len(broken()) == 5


def test_a_download_of_ours_that_is_not_finished_is_no_fault(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / ".download").mkdir()
    (folder / ".download" / "model.safetensors.part").write_bytes(b"x" * 8192)
    assert broken() == []
    result = one("model.unfinished")
    assert (result.status, result.case) == ("info", "ours")
    assert result.what("en") == "The download of mine is not finished; 8.2 KB were downloaded."
    assert result.fix("zh") == "请在“模型”一步继续，或运行 `python launcher.py models download mine`。"
    assert one("model.files").fact("en") == "Complete: GLM Studio demo"
