"""Weights written anew as 16-bit safetensors: every number, every interruption, and folders that are wrong."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from glmstudio.errors import StudioError
from glmstudio.glm import load_model
from glmstudio.glm.weights import convert as module
from glmstudio.glm.weights.base_weights import read_tensors
from glmstudio.glm.weights.convert import convert, drop_originals
from glmstudio.models.folder import folder_problems, weight_files
from glmstudio.paths import DEMO
from tests.marks import slow
from tests.namespaces import ROOT

GOLDEN = Path(__file__).parent / "golden" / "model"
TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
FORMS = ["shards.bin", "one.bin", "shards.safetensors", "one.safetensors"]
INDEX = "model.safetensors.index.json"
IDS = torch.tensor([[5, 9, 33, 2, 17]])


def quiet(done: int, total: int) -> None:
    pass


def golden(folder: Path, form: str = "shards.bin") -> Path:
    """The golden checkpoint (float32) in one of four forms."""
    shards = [torch.load(file, weights_only=True) for file in sorted(GOLDEN.glob("*.bin"))]
    folder.mkdir()
    shutil.copy(GOLDEN / "config.json", folder)
    (folder / "tokenizer.model").write_bytes(b"x")
    count, kind = form.split(".")
    if count == "one":
        shards = [{name: tensor for shard in shards for name, tensor in shard.items()}]
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names = [f"{stem}-{n:05}-of-{len(shards):05}.{kind}" for n in range(1, len(shards) + 1)]
    if count == "one":
        names = [f"{stem}.{kind}"]
    else:
        table = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        (folder / f"{stem}.{kind}.index.json").write_text(json.dumps({"weight_map": table}))
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name) if kind == "safetensors" else torch.save(shard, folder / name)
    return folder


def odd(folder: Path, tensors: Any) -> Path:
    """A folder of its own with these tensors in one old file."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "chatglm"}')
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for file in weight_files(folder) for name, tensor in read_tensors(file).items()}


def logits(folder: Path, dtype: torch.dtype) -> torch.Tensor:
    model = load_model(folder, device="cpu", dtype=dtype)
    with torch.no_grad():
        return model(input_ids=IDS).logits


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(
        left.reshape(-1).view(torch.int16), right.reshape(-1).view(torch.int16)
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("form", FORMS)
def test_every_number_is_kept_and_the_model_answers_the_same(tmp_path: Path, form: str, dtype: str) -> None:
    folder, kind = golden(tmp_path / "model", form), TYPES[dtype]
    before, was, answer = files(folder), all_tensors(folder), logits(folder, kind)
    told: list[tuple[int, int]] = []
    made = convert(folder, dtype=dtype, tell=lambda *step: told.append(step))
    now = all_tensors(folder)
    assert now.keys() == was.keys()
    assert all(now[name].shape == was[name].shape and same_bits(now[name], was[name].to(kind)) for name in was)
    assert torch.equal(logits(folder, kind), answer)
    assert list(folder_problems(folder)) == []
    shards = [file for file in made if file.suffix == ".safetensors"]
    assert weight_files(folder) == shards
    assert len(shards) == (2 if form.startswith("shards") else 1)
    if made[-1].name == INDEX:
        index = json.loads((folder / INDEX).read_text())
        assert index["weight_map"] == {name: file.name for file in shards for name in load_file(file)}
        assert index["metadata"]["total_size"] == 2 * sum(tensor.numel() for tensor in was.values())
    total = 2 * sum(file.stat().st_size for file in shards)
    assert told[-1] == (total, total)
    assert {about for _, about in told} == {total}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    after = files(folder)
    assert {name: data for name, data in after.items() if name in before and name != INDEX} == {
        name: data for name, data in before.items() if name != INDEX
    }
    assert not (folder / ".convert").exists()


def test_the_published_names_where_they_are_free(tmp_path: Path) -> None:
    made = convert(golden(tmp_path / "shards"), dtype="float16", tell=quiet)
    assert [file.name for file in made] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        INDEX,
    ]
    made = convert(golden(tmp_path / "one", "one.bin"), dtype="float16", tell=quiet)
    assert [file.name for file in made] == ["model.safetensors"]


def test_other_names_where_they_are_not(tmp_path: Path) -> None:
    """In use, or with a sum that somebody noted for another file, or behind an index that goes before one file."""
    made = convert(golden(tmp_path / "one", "one.safetensors"), dtype="float16", tell=quiet)
    assert [file.name for file in made] == ["model-float16-00001-of-00001.safetensors", INDEX]
    again = convert(tmp_path / "one", dtype="bfloat16", tell=quiet)
    assert [file.name for file in again] == ["model-00001-of-00001.safetensors", INDEX]
    noted = golden(tmp_path / "noted")
    notes = noted / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "model-00002-of-00002.safetensors.metadata").write_text(f"0123\n{'ab' * 32}\n17\n")
    made = convert(noted, dtype="float16", tell=quiet)
    assert made[0].name == "model-float16-00001-of-00002.safetensors"
    alone = golden(tmp_path / "alone", "one.bin")
    table = dict.fromkeys(all_tensors(alone), "pytorch_model.bin")
    (alone / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))
    made = convert(alone, dtype="float16", tell=quiet)
    assert weight_files(alone) == made[:1] == [alone / "model-00001-of-00001.safetensors"]


def test_the_demo(tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO / "model", tmp_path / "demo")
    was, answer = all_tensors(folder), logits(folder, torch.bfloat16)
    with pytest.raises(StudioError, match=r"The weights in .* are safetensors in float16 already\."):
        convert(folder, dtype="float16", tell=quiet)
    assert sorted(files(folder)) == ["config.json", "model.safetensors", "tokenizer.model"]
    convert(folder, dtype="bfloat16", tell=quiet)
    now = all_tensors(folder)
    assert all(same_bits(now[name], was[name].to(torch.bfloat16)) for name in was)
    assert torch.equal(logits(folder, torch.bfloat16), answer)


def test_float16_stays_bit_for_bit(tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO / "model", tmp_path / "demo")
    was = all_tensors(folder)
    torch.save(was, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (made,) = convert(folder, dtype="float16", tell=quiet)
    now = load_file(made)
    assert now.keys() == was.keys()
    assert all(same_bits(now[name], was[name]) for name in was)
    assert (folder / "pytorch_model.bin").exists()
    assert torch.equal(logits(folder, torch.float32), logits(DEMO / "model", torch.float32))


def test_tensors_of_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLICE", 16)
    whole = torch.randn(40, 7)
    tensors = {
        "turned": whole.T, "tied": whole, "again": whole, "part": whole[3:30:2, 1:5], "wide": torch.randn(3).expand(9, 3),
        "row": torch.randn(1, 100)[:, ::2], "deep": torch.randn(3, 4, 5, 2).permute(3, 1, 0, 2), "one": torch.tensor(1.5),
        "none": torch.empty(0, 4), "double": torch.randn(33, dtype=torch.float64), "brain": torch.randn(50).bfloat16(),
        "trained": torch.nn.Parameter(torch.randn(20)), "zero": torch.tensor([-0.0, 6e-8]),
    }  # fmt: skip
    (made,) = convert(odd(tmp_path, tensors), dtype="float16", tell=quiet)
    now = load_file(made)
    assert now.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert now[name].shape == tensor.shape
        assert same_bits(now[name], tensor.detach().to(torch.float16)), name


@pytest.mark.parametrize(
    ("tensors", "dtype", "words"),
    [
        ({"a": torch.ones(9), "b": torch.tensor([1.0, 70000.0])}, "float16",
         r"The file .*pytorch_model\.bin contains values in “b” that are too large for float16\. Convert to bfloat16"),
        ({"b": torch.tensor([1.0, float("nan")])}, "float16", r"pytorch_model\.bin contains infinite or NaN values in “b”"),
        ({"b": torch.tensor([1.0, float("nan")]).half()}, "float16", "contains infinite or NaN values in “b”"),
        ({"b": torch.tensor([1.0, float("-inf")]).half()}, "bfloat16", "contains infinite or NaN values in “b”"),
        ({"b": torch.tensor([3.4e38])}, "bfloat16", "contains infinite or NaN values in “b”"),
        ({"b": torch.ones(4, dtype=torch.int8)}, "float16", "holds “b”, which does not fit the model"),
        ({"b": torch.eye(4).to_sparse()}, "float16", "holds “b”, which does not fit the model"),
        ({"b": {"c": torch.ones(4)}}, "float16", "holds “b”, which does not fit the model"),
        ({"__metadata__": torch.ones(4)}, "float16", "holds “__metadata__”, which does not fit the model"),
        ({3: torch.ones(4)}, "float16", "holds “3”, which does not fit the model"),
        ({"\ud800": torch.ones(4)}, "float16", "which does not fit the model"),
        ([torch.ones(4)], "float16", "cannot be read as plain weights"),
        ({"b": Path("x")}, "float16", "cannot be read as plain weights"),
        ({"b": torch.ones(1).expand(1 << 45)}, "float16", "has no room for the converted weights"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_converted_are_left_alone(tmp_path: Path, tensors: Any, dtype: str, words: str) -> None:
    before = files(odd(tmp_path, tensors))
    with pytest.raises(StudioError, match=words):
        convert(tmp_path, dtype=dtype, tell=quiet)
    assert files(tmp_path) == before
    assert not (tmp_path / ".convert").exists()


def test_too_large_for_float16_but_not_for_bfloat16(tmp_path: Path) -> None:
    odd(tmp_path, {"b": torch.tensor([1.0, 70000.0])})
    (made,) = convert(tmp_path, dtype="bfloat16", tell=quiet)
    assert load_file(made)["b"].tolist() == [1.0, 70144.0]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "llama"}'), "type “llama”"),
        (lambda folder: (folder / "pytorch_model-00002-of-00002.bin").unlink(), r"00002\.bin is missing"),
        (lambda folder: os.truncate(folder / "pytorch_model-00002-of-00002.bin", 5000), r"00002\.bin is cut off"),
        (lambda folder: (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "../../passwd"}}'),
         r"The file .*/model/passwd is missing"),
    ],
)  # fmt: skip
def test_a_folder_that_is_wrong(tmp_path: Path, spoil: Callable[[Path], Any], words: str) -> None:
    folder = golden(tmp_path / "model")
    spoil(folder)
    before = files(folder)
    with pytest.raises(StudioError, match=words):
        convert(folder, dtype="float16", tell=quiet)
    assert files(folder) == before


def test_what_an_earlier_try_left_goes_and_a_link_leads_nowhere(tmp_path: Path) -> None:
    folder = golden(tmp_path / "model")
    (folder / ".convert").mkdir()
    (folder / ".convert" / "model-00001-of-00002.safetensors").write_bytes(b"half")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"half")
    convert(folder, dtype="float16", tell=quiet)
    logits(folder, torch.float16)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter").write_text("dear")
    (folder / ".convert").symlink_to(mine)
    convert(folder, dtype="bfloat16", tell=quiet)
    assert files(mine) == {"letter": b"dear"}
    assert not (folder / ".convert").is_symlink()


def corrupt_after(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], Any]) -> None:
    """Every shard is spoiled between the moment it was written and the moment it is proven."""
    prove = module._prove

    def spoiled(shard: Any, file: Path, *rest: Any) -> Iterator[int]:
        spoil(file)
        return prove(shard, file, *rest)

    monkeypatch.setattr(module, "_prove", spoiled)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", [20, -100, "short", "long"])
def test_a_disk_that_lies_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, place: int | str
) -> None:
    def spoil(file: Path) -> None:
        data = bytearray(file.read_bytes())
        if isinstance(place, int):
            data[place] ^= 1
        file.write_bytes(data[:-1] if place == "short" else data + b"x" * (place == "long"))

    folder = golden(tmp_path / "model", form)
    before = files(folder)
    corrupt_after(monkeypatch, spoil)
    with pytest.raises(StudioError, match=r"The weights in .*\.convert/model.* are not what should have been written"):
        convert(folder, dtype="float16", tell=quiet)
    assert files(folder) == before
    assert not (folder / ".convert").exists()


def test_names_and_shapes_are_proven_apart_from_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = golden(tmp_path / "model")
    header = module.safetensors_header
    monkeypatch.setattr(
        module, "safetensors_header", lambda shapes, code: header({f"x{name}": shapes[name] for name in shapes}, code)
    )
    with pytest.raises(StudioError) as caught:
        convert(folder, dtype="float16", tell=quiet)
    assert caught.value.key == "models.convert_mismatch"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at", ["write", "rename", "stop"])
def test_a_failure_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, at: str
) -> None:
    folder = golden(tmp_path / "model", form)
    before = files(folder)
    renamed, replace = [], os.replace

    def failing(source: Path, target: Path) -> None:
        renamed.append(source)
        if Path(target).name in (INDEX, "model.safetensors"):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    def stop(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if at == "rename":
        monkeypatch.setattr(os, "replace", failing)
    elif at == "write":
        monkeypatch.setattr(os, "fsync", full)
    expected = {"write": "has no room", "rename": "could not be converted: Input/output error", "stop": None}[at]
    with pytest.raises(StudioError if expected else KeyboardInterrupt, match=expected):
        convert(folder, dtype="float16", tell=stop if at == "stop" else quiet)
    monkeypatch.undo()
    assert bool(renamed) == (at == "rename")
    assert files(folder) == before
    assert not (folder / ".convert").exists()


_ON_A_SMALL_DISK = """
import shutil, sys
from pathlib import Path
from glmstudio.errors import StudioError
from glmstudio.glm.weights.convert import convert
folder, told = Path(sys.argv[1]), []
try:
    if sys.argv[2] == "unseen":  # as with a quota, which the disk's own number does not show
        shutil.disk_usage = lambda path: type("Usage", (), {"free": 1 << 40})
    convert(folder, dtype="float16", tell=lambda done, total: told.append(done))
except StudioError as error:
    print(error.key, sys.argv[2], bool(told), sorted(file.name for file in folder.iterdir()) == sys.argv[3:])
"""


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    names = [*(file.name for file in GOLDEN.iterdir()), "filler"]
    scene = f"""
    set -e; mount --make-rprivate /; mount -t tmpfs -o size=640k tmpfs {small}; cp {GOLDEN}/* {small}
    head -c 20000 /dev/zero > {small}/filler
    for how in seen unseen; do {sys.executable} -c "$CODE" {small} $how {" ".join(sorted(names))}; done
    cp -r {small} {tmp_path}/after
    """
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", scene], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "CODE": _ON_A_SMALL_DISK},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "models.disk_full_convert seen False True",
        "models.disk_full_convert unseen True True",
    ]
    assert torch.equal(logits(tmp_path / "after", torch.float16), logits(GOLDEN, torch.float16))


# Imports once; then each line "FOLDER SECONDS RENAMES" makes a child that converts, slowly, and is killed after so many
# seconds, or just before ("3-") or after ("3+") so many renames.
_KILLED = """
import os, signal, sys, time
from pathlib import Path
from glmstudio.glm.weights.convert import convert
replace, count = os.replace, 0
def die(): os.kill(os.getpid(), signal.SIGKILL)
def slow(source, target):
    global count
    count += 1
    if at == f"{count}-": die()
    time.sleep(0.005)
    replace(source, target)
    time.sleep(0.005)
    if at == f"{count}+": die()
print("ready", flush=True)
for line in sys.stdin:
    folder, seconds, at = line.split("|")
    at = at.strip()
    child = os.fork()
    if not child:
        os.replace = slow
        convert(Path(folder), dtype="float16", tell=lambda done, total: time.sleep(0.002))
        os._exit(0)
    if seconds:
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[..., bool]]:
    """Converts in a process of its own that is killed; says whether it was killed before its end."""
    helper = subprocess.Popen(
        [sys.executable, "-c", _KILLED], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert helper.stdin
    assert helper.stdout
    assert helper.stdout.readline() == "ready\n"

    def ask(folder: Path, seconds: float | str = "", at: str = "") -> bool:
        helper.stdin.write(f"{folder}|{seconds}|{at}\n")
        status = int(helper.stdout.readline())
        assert status in (0, 9)
        return status == 9

    yield ask
    helper.stdin.close()
    helper.wait()


@pytest.mark.parametrize("form", [FORMS[0], *map(slow, FORMS[1:])])
def test_killed_at_any_moment_the_folder_loads_and_the_next_try_ends(tmp_path: Path, form: str, killed: Any) -> None:
    chance, number = random.Random(form), 0
    folder = golden(tmp_path / "0", form)
    originals, answer = weight_files(folder), logits(folder, torch.float16)
    kept = {file.name: file.read_bytes() for file in originals}
    hits = 0
    while hits < 10:
        hits += killed(folder, seconds=round(chance.uniform(0.0, 0.15), 4))
        number += 1
        assert number < 60
        assert {name: (folder / name).read_bytes() for name in kept} == kept
        assert torch.equal(logits(folder, torch.float16), answer)
        if weight_files(folder)[0].name not in kept:  # it had come to its end; what others left stays for the next
            folder = golden(tmp_path / str(number), form)
    made = convert(folder, dtype="float16", tell=quiet)
    assert not (folder / ".convert").exists()
    assert torch.equal(logits(folder, torch.float16), answer)
    drop_originals(folder, [folder / name for name in kept])
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        ["config.json", "tokenizer.model", *(f.name for f in made)]
    )


@pytest.mark.parametrize("form", [FORMS[0], *map(slow, FORMS[1:])])
def test_killed_at_each_rename(tmp_path: Path, form: str, killed: Any) -> None:
    answer = logits(GOLDEN, torch.float16)
    renames = {"shards.bin": 3, "one.bin": 1, "shards.safetensors": 3, "one.safetensors": 2}[form]
    for at in [f"{number}{side}" for number in range(1, renames + 1) for side in "-+"]:
        folder = golden(tmp_path / at, form)
        old = [file.name for file in weight_files(folder)]
        assert killed(folder, at=at)
        assert torch.equal(logits(folder, torch.float16), answer), at
        assert (old != [file.name for file in weight_files(folder)]) == (at == f"{renames}+")
        if at == f"{renames}+":
            with pytest.raises(StudioError, match="already"):
                convert(folder, dtype="float16", tell=quiet)
        else:
            convert(folder, dtype="float16", tell=quiet)
        assert torch.equal(logits(folder, torch.float16), answer)
        assert not (folder / ".convert").exists()
    assert not killed(golden(tmp_path / "last", form), at=f"{renames + 1}-")


@pytest.mark.parametrize("form", FORMS)
def test_the_originals_go_when_they_are_told_to(tmp_path: Path, form: str) -> None:
    folder = golden(tmp_path / "model", form)
    old, answer = weight_files(folder), logits(folder, torch.float16)
    size = sum(file.stat().st_size for file in old)
    if form == "shards.bin":
        size += (folder / "pytorch_model.bin.index.json").stat().st_size
    assert drop_originals(folder, old) == 0  # nothing took their place yet
    made = convert(folder, dtype="float16", tell=quiet)
    (folder / "training_args.bin").write_bytes(b"mine")
    assert drop_originals(folder, old) == size
    left = {"config.json", "tokenizer.model", "training_args.bin", *(file.name for file in made)}
    assert {file.name for file in folder.iterdir()} == left
    assert torch.equal(logits(folder, torch.float16), answer)
    assert drop_originals(folder, old) == 0
    assert drop_originals(folder, made) == 0
    assert {file.name for file in folder.iterdir()} == left


def test_nothing_goes_while_the_new_weights_are_not_whole_or_outside_the_folder(tmp_path: Path) -> None:
    folder, other = golden(tmp_path / "model"), golden(tmp_path / "other")
    old = weight_files(folder)
    made = convert(folder, dtype="float16", tell=quiet)
    whole = made[1].read_bytes()
    made[1].write_bytes(whole[:-1])
    assert drop_originals(folder, old) == 0  # they are what is loaded now
    assert weight_files(folder) == old
    assert all(file.exists() for file in old)
    made[1].write_bytes(whole)
    assert drop_originals(folder, [other / "config.json", folder / "config.json", other / "pytorch_model.bin"]) == 0
    assert (folder / "config.json").exists()
    assert (folder / "pytorch_model.bin.index.json").exists()
    drop_originals(folder, [other / file.name for file in old])  # names count, and only in this folder
    assert all(file.exists() for file in weight_files(other))


def test_a_link_gives_nothing_back_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    """As in Hugging Face's cache, where a model's files are links."""
    store, folder = golden(tmp_path / "store"), tmp_path / "model"
    folder.mkdir()
    for file in store.iterdir():
        (folder / file.name).symlink_to(file)
    old, before = weight_files(folder), files(store)
    made = convert(folder, dtype="float16", tell=quiet)
    assert not any(file.is_symlink() for file in made)
    assert drop_originals(folder, old) == 0
    assert not any(os.path.lexists(file) for file in old)
    assert files(store) == before


@pytest.mark.slow
def test_no_shard_is_ever_held_twice() -> None:
    from tests.bench.convert_memory import measure

    assert measure(150, ("bfloat16",), shards=2)["bfloat16"] < 1.3
