"""Model folders verified by sizes and by every byte, and the commands for it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from glmstudio.cli import main
from glmstudio.models.manifest import NAME as MANIFEST
from glmstudio.models.manifest import known_sums
from glmstudio.models.verify import verify
from glmstudio.paths import DEMO


@pytest.fixture
def folder(home: Path) -> Path:
    copied = home / "models" / "mine"
    shutil.copytree(DEMO / "model", copied)
    return copied


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def note_sums(folder: Path) -> None:
    """What our own download writes down."""
    files = {f.name: {"size": f.stat().st_size, "sha256": sha256(f)} for f in folder.iterdir() if f.is_file()}
    (folder / MANIFEST).write_text(json.dumps({"files": files}))


def flip(file: Path) -> None:
    """One wrong bit in the middle; the size stays."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_a_wrong_bit_is_found_by_the_full_check_and_by_no_quick_one(folder: Path) -> None:
    note_sums(folder)
    told: list[tuple[int, int]] = []
    assert verify(folder, full=True, tell=lambda done, total: told.append((done, total))) == []
    total = sum((folder / name).stat().st_size for name in ("config.json", "tokenizer.model", "model.safetensors"))
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    flip(folder / "model.safetensors")
    assert verify(folder) == []
    (problem,) = verify(folder, full=True)
    assert problem.what("en") == (
        f"The file {folder}/model.safetensors has the right size, but not the published checksum."
    )


def test_sums_that_the_hubs_own_client_noted(folder: Path) -> None:
    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    weights = folder / "model.safetensors"
    (notes / "model.safetensors.metadata").write_text(f"0123abcd\n{sha256(weights)}\n1700000000.0\n")
    (notes / "config.json.metadata").write_text(
        "0123abcd\n415b51f6043e\n1700000000.0\n"
    )  # a small file has another sum
    (notes / "torn.metadata").write_text("0123abcd")
    assert known_sums(folder) == {"model.safetensors": sha256(weights)}
    flip(weights)
    assert [problem.key for problem in verify(folder, full=True)] == ["models.wrong_bytes"]


def test_a_bin_file_carries_sums_of_its_own(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    torch.save({"x": torch.arange(100_000)}, file)
    assert verify(folder, full=True) == []
    flip(file)
    assert verify(folder) == []
    assert [problem.key for problem in verify(folder, full=True)] == ["models.wrong_bytes"]


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"files": 5}', '{"files": {"x": 3}}', '{"files": {"x": {"sha256": "../"}}}']
)
def test_a_damaged_note_proves_nothing_and_breaks_nothing(text: str, folder: Path) -> None:
    (folder / MANIFEST).write_text(text)
    assert known_sums(folder) == {}
    assert verify(folder, full=True) == []


def test_the_command_and_its_json(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    assert main(["models", "verify", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "problems": []}
    (folder / "tokenizer.model").unlink()
    cut = (folder / "model.safetensors").read_bytes()[:-10]
    (folder / "model.safetensors").write_bytes(cut)
    assert main(["models", "verify", str(folder), "--full", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "problems": [
            {"file": "tokenizer.model", "reason": f"The file {folder}/tokenizer.model is missing."},
            {"file": "model.safetensors", "reason": f"The file {folder}/model.safetensors is cut off or damaged."},
        ],
    }
    assert main(["models", "verify", "no-such-model"]) == 1


def test_folders_are_added_listed_and_removed(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    elsewhere = tmp_path / "my model 模型"
    shutil.copytree(DEMO / "model", elsewhere)
    assert main(["models", "add", str(elsewhere)]) == 0
    assert capsys.readouterr().out == f"“my model 模型” is now on the list: {elsewhere}\n"
    for listing in (["models", "--json"], ["models", "list", "--json"]):
        assert main(listing) == 0
        here = [model for model in json.loads(capsys.readouterr().out) if model["kind"] != "catalogue"]
        assert [model["name"] for model in here] == ["demo", "my model 模型"]
    assert main(["models", "remove", "my model 模型"]) == 0
    assert (elsewhere / "config.json").exists()
    assert main(["models", "remove", "my model 模型"]) == 1
