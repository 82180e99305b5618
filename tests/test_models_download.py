"""Downloads against a hub on this machine: whole and proven, or stopped with a reason; never a wrong file called ready."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glmstudio.errors import StudioError
from glmstudio.models import manifest, verification
from glmstudio.models.catalogue import Entry
from glmstudio.models.hub.download import WORK, Options, discard, download, lock
from glmstudio.models.jobs import Stopped
from tests.fakes.hub import Faults, Hub
from tests.fakes.published import make_model
from tests.marks import slow
from tests.models import MODEL, NEEDED, PIECE, QUICK, REPO, fetch, weights

SHARD = "pytorch_model-00001-of-00002.bin"
SHARD_BYTES = 200_000


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The model as the hub has it."""
    return make_model(tmp_path / "hub", REPO, shard_bytes=SHARD_BYTES)


@pytest.fixture
def hub(tmp_path: Path, published: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as running:
        for name in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT", "GLMSTUDIO_MIRROR"):
            monkeypatch.setenv(name, running.url)
        yield running


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "models" / "chatglm3-6b"


def proven(folder: Path, published: Path) -> None:
    """The folder is what the hub published, and says so; nothing else is in it."""
    assert weights(folder) == weights(published)
    assert verification.is_verified(folder) is not None
    assert sorted(file.name for file in folder.iterdir()) == sorted([*NEEDED, manifest.NAME])


@pytest.mark.parametrize("source", ["modelscope", "huggingface", "mirror"])
def test_only_what_is_needed_is_fetched_and_only_once(source: str, hub: Hub, folder: Path, published: Path) -> None:
    fetch(folder, source)
    proven(folder, published)
    assert {each.path for each in hub.requests if each.kind == "body"} == set(NEEDED)
    total = sum(len(data) for data in weights(published).values())
    assert total <= hub.sent() <= total + 4 * PIECE  # what was on the way when another connection took over the rest
    before = hub.sent()
    fetch(folder, source)
    assert hub.sent() == before
    assert manifest.origin(folder) == (source, REPO)


def test_safetensors_are_taken_where_there_are_any(hub: Hub, folder: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "hub", REPO, layout="both", shard_bytes=1000)
    fetch(folder)
    assert [file.name for file in sorted(folder.glob("*model-0*"))] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


@pytest.mark.parametrize(
    "faults",
    [
        Faults(drop_after=(50_000, 1, 100_000, 20_000)),
        Faults(truncated=3),
        Faults(too_many=3),
        Faults(most_connections=1),
        Faults(errors=(500, 502, 503, 500)),
        Faults(wrong_length=2),
        Faults(wrong_bytes={SHARD: 1}),
        Faults(stall_after=(30_000, 10_000)),
        Faults(redirect=True),
        Faults(redirect=True, signature_uses=2),
        Faults(forbid_ranges=True),
        Faults(ignore_ranges=True),
        Faults(html=2),
        Faults(listing_errors=(502,)),
    ],
    ids=lambda faults: ",".join(name for name, value in vars(faults).items() if value and name != "retry_after"),
)
@pytest.mark.parametrize("source", ["modelscope", "huggingface"])
def test_a_fault_that_passes_is_outlived(source: str, faults: Faults, hub: Hub, folder: Path, published: Path) -> None:
    hub.faults = faults
    fetch(folder, source)
    proven(folder, published)


@pytest.mark.parametrize(
    ("faults", "key"),
    [
        (Faults(errors=(500,) * 500), "models.hub_busy"),
        (Faults(too_many=500), "models.hub_busy"),
        (Faults(drop_after=(100,) * 500), "models.hub_cut"),
        (Faults(stall_after=(100,) * 500), "models.hub_stalled"),
        (Faults(wrong_bytes={SHARD: -1}), "models.wrong_from_hub"),
        (Faults(wrong_length=500), "models.hub_wrong_length"),
        (Faults(html=500), "models.hub_nonsense"),
        (Faults(listing_errors=(403,)), "models.hub_refused"),
        (Faults(listing_errors=(404,)), "models.hub_no_model"),
        (Faults(listing_errors=(502,) * 9), "models.hub_busy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_that_stays_is_named_and_what_arrived_is_kept(
    faults: Faults, key: str, hub: Hub, folder: Path, published: Path
) -> None:
    hub.faults = faults
    with pytest.raises(StudioError) as stopped:
        fetch(folder)
    assert stopped.value.key == key
    assert stopped.value.fix("zh")
    assert verification.is_verified(folder) is None
    hub.faults = Faults()
    kept = sum(len(data) for data in weights(folder).values())
    before = hub.sent()
    fetch(folder)
    proven(folder, published)
    assert hub.sent() - before <= sum(len(data) for data in weights(published).values()) - kept + 8 * PIECE


def plan(chance: random.Random) -> Faults:
    """A few faults at once, drawn by chance."""

    def some(numbers: list[int], most: int = 4) -> tuple[int, ...]:
        return tuple(chance.choices(numbers, k=chance.randrange(most)))

    places = [1, 500, 20_000, 60_000, 150_000]
    return Faults(
        drop_after=some(places),
        forbid_ranges=chance.random() < 0.1,
        ignore_ranges=chance.random() < 0.1,
        too_many=chance.choice([0, 0, 2]),
        most_connections=chance.choice([0, 0, 1, 2]),
        errors=some([500, 502, 503, 403, 404, 410, 416, 418]),
        listing_errors=some([500, 503, 429], 2),
        wrong_length=chance.choice([0, 0, 1, 5]),
        wrong_bytes={chance.choice(NEEDED): chance.choice([1, 2, -1])} if chance.random() < 0.3 else {},
        stall_after=some(places, 2),
        redirect=chance.random() < 0.4,
        signature_uses=chance.choice([0, 0, 1, 3]),
        truncated=chance.choice([0, 0, 1, 3]),
        html=chance.choice([0, 0, 0, 1]),
    )


def check_plan(seed: int, hub: Hub, folder: Path, published: Path, tmp_path: Path) -> None:
    """One plan of faults, with a changed file at the hub in some: whole and proven, or stopped with a reason."""
    chance = random.Random(seed)
    hub.faults = plan(chance)
    changes, revisions = chance.random() < 0.2, [weights(published)]

    def tell(progress: Any) -> None:
        nonlocal changes
        if changes and progress.done > progress.total / 3 > 0:
            make_model(tmp_path / "hub", REPO, shard_bytes=SHARD_BYTES, seed=seed)
            revisions.append(weights(published))
            changes = False

    stopped = None
    try:
        fetch(folder, chance.choice(["modelscope", "huggingface"]), connections=chance.randrange(1, 7), tell=tell)
    except StudioError as reason:
        stopped = reason
    if stopped is not None:
        assert stopped.key.startswith("models."), seed
        assert stopped.key != "models.broken", (seed, stopped)
        assert verification.is_verified(folder) is None, seed
        for name, about in manifest.files(folder).items():
            assert (folder / name).stat().st_size == about["size"], seed
        hub.faults = Faults()
        fetch(folder)
    assert weights(folder) in revisions, seed  # the one that was listed, as a whole; never a mixture
    assert verification.is_verified(folder) is not None, seed


@pytest.mark.parametrize("seed", [*range(6), *map(slow, range(6, 12))])
def test_random_plans_of_faults(seed: int, hub: Hub, folder: Path, published: Path, tmp_path: Path) -> None:
    check_plan(seed, hub, folder, published, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12, 20))  # range(12, 200) passes, too, and takes five minutes
def test_many_random_plans_of_faults(seed: int, hub: Hub, folder: Path, published: Path, tmp_path: Path) -> None:
    check_plan(seed, hub, folder, published, tmp_path)


def stop_after(share: float) -> Any:
    def tell(progress: Any) -> None:
        if progress.total and progress.done > share * progress.total:
            raise Stopped

    return tell


@pytest.mark.parametrize("source", ["modelscope", "huggingface"])
def test_a_stopped_download_goes_on_without_fetching_again(
    source: str, hub: Hub, folder: Path, published: Path
) -> None:
    hub.rate = 300_000
    with pytest.raises(Stopped):
        fetch(folder, source, tell=stop_after(0.4))
    hub.rate = 0
    total = sum(len(data) for data in weights(published).values())
    assert 0 < hub.sent() < total
    fetch(folder, source)
    proven(folder, published)
    # A piece for each connection that was cut off, and what was on the way when another took over its rest.
    assert hub.sent() <= total + 8 * PIECE


def test_a_file_that_changed_at_the_hub_is_fetched_anew_and_the_others_stay(
    hub: Hub, folder: Path, published: Path
) -> None:
    hub.rate = 300_000
    with pytest.raises(Stopped):
        fetch(folder, tell=stop_after(0.7))
    hub.rate = 0
    data = bytearray((published / "pytorch_model-00002-of-00002.bin").read_bytes())
    data[100] ^= 255
    (published / "pytorch_model-00002-of-00002.bin").write_bytes(data)
    before = hub.sent(SHARD)
    fetch(folder)
    proven(folder, published)
    assert hub.sent(SHARD) - before <= SHARD_BYTES / 2


def test_bytes_that_the_disk_lost_are_fetched_again(hub: Hub, folder: Path, published: Path) -> None:
    hub.rate = 300_000
    with pytest.raises(Stopped):
        fetch(folder, tell=stop_after(0.5))
    hub.rate = 0
    part = folder / WORK / f"{SHARD}.part"
    if not part.exists():
        part = next((folder / WORK).glob("*.part"))
    with part.open("r+b") as stream:
        stream.write(b"\0" * PIECE)
    fetch(folder)
    proven(folder, published)


def test_a_right_file_that_is_there_already_is_taken_as_it_is(hub: Hub, folder: Path, published: Path) -> None:
    folder.mkdir(parents=True)
    (folder / SHARD).write_bytes((published / SHARD).read_bytes())
    (folder / "config.json").write_bytes(b"version https://git-lfs")
    fetch(folder)
    proven(folder, published)
    assert hub.sent(SHARD) == 0


def test_a_source_that_fails_is_followed_by_the_next(
    hub: Hub, folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    told = []
    download(
        MODEL,
        folder,
        Options(sources=("modelscope", "huggingface"), piece=PIECE, patience=QUICK),
        lambda progress: told.append(progress.source),
    )
    proven(folder, published)
    assert list(dict.fromkeys(told)) == ["modelscope", "huggingface"]


def test_no_network_is_said_for_each_source(home: Path, folder: Path) -> None:
    with pytest.raises(StudioError) as stopped:
        download(MODEL, folder, Options(patience=QUICK), lambda _: None)
    assert stopped.value.what("en") == (
        "ChatGLM3-6B could not be downloaded from any source. 127.0.0.1 does not answer. 127.0.0.1 does not "
        "answer. 127.0.0.1 does not answer."
    )


def test_a_proxy_that_does_not_answer_is_named(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(progress: Any) -> None:
        if progress.phase == "checking":  # the list has been read without it
            for name in ("http_proxy", "HTTP_PROXY"):
                monkeypatch.setenv(name, "http://127.0.0.1:9")
            for name in ("no_proxy", "NO_PROXY"):
                monkeypatch.delenv(name, raising=False)

    with pytest.raises(StudioError) as stopped:
        fetch(folder, tell=tell)
    assert stopped.value.what("en") == "127.0.0.1 cannot be reached through the proxy http://127.0.0.1:9."


def test_two_studios_on_one_folder(hub: Hub, folder: Path) -> None:
    with lock(folder), pytest.raises(StudioError) as refused:
        fetch(folder)
    assert refused.value.what("en") == f"Another program is working on {folder}."


# Downloads into argv[1] where argv[2] says how the disk is: seen to be full before, full without a warning (as under a
# quota), closed to writing, or large enough.
_ON_A_DISK = """
import os, shutil, sys
from pathlib import Path
from types import SimpleNamespace
from glmstudio.errors import StudioError
from glmstudio.models.hub import download
from tests.models import fetch, weights
folder, how = Path(sys.argv[1]), sys.argv[2]
if how == "unseen":
    download.shutil = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=1e12), rmtree=shutil.rmtree)
try:
    fetch(folder)
    print("whole", sorted(weights(folder)))
except StudioError as stopped:
    print(stopped.key, stopped.what("en"))
if how == "unseen":  # room is made, and it goes on
    (folder.parent / "filler").unlink()
    fetch(folder)
    print("whole", sorted(weights(folder)))
"""


@pytest.mark.parametrize(
    ("how", "scene", "told"),
    [
        ("seen", "mount -t tmpfs -o size=1m tmpfs {disk}", "models.disk_full The disk of {folder} has 1.0 MB free, and 67.5 MB are needed."),
        (
            "unseen",
            "mount -t tmpfs -o size=700k tmpfs {disk}; head -c 400000 /dev/zero > {disk}/filler",
            "models.disk_filled The disk of {folder} is full.",
        ),
        ("closed", "mount -t tmpfs -o ro tmpfs {disk}", "models.unwritable Nothing can be written to {folder}: Read-only file system."),
        ("large", "mount -t tmpfs -o size=200m tmpfs {disk}", f"whole {sorted(NEEDED)}"),
    ],
)  # fmt: skip
def test_on_another_disk(how: str, scene: str, told: str, hub: Hub, tmp_path: Path) -> None:
    disk = tmp_path / "another disk"
    disk.mkdir()
    folder, quoted = disk / "模型", f"'{disk}'"
    script = (
        f'set -e; mount --make-rprivate /; {scene.format(disk=quoted)}; exec "$PYTHON" -c "$CODE" \'{folder}\' {how}'
    )
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHON": sys.executable, "CODE": _ON_A_DISK},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines[:1] == [told.format(folder=folder)], done.stderr
    assert lines[1:] == ([f"whole {sorted(NEEDED)}"] if how == "unseen" else [])


def test_a_file_in_the_way_of_a_folder(hub: Hub, folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file is in the way")
    with pytest.raises(StudioError) as refused:
        fetch(folder)
    assert refused.value.key == "models.unwritable"


@pytest.mark.parametrize("name", ["模型 ChatGLM3", "with  spaces", "quo'te\"s", "a" * 200])
def test_odd_names_of_folders(name: str, hub: Hub, home: Path, published: Path) -> None:
    fetch(home / name)
    proven(home / name, published)


@pytest.mark.parametrize(
    "names",
    [
        ["../evil.bin"],
        ["/etc/passwd"],
        ["sub/config.json"],
        ["model.safetensors\0"],
        ["pytorch_model-00001-of-00001.bin"],
    ],
)
def test_a_hub_cannot_choose_where_files_go(names: list[str]) -> None:
    from glmstudio.models.hub.hubs import RemoteFile, needed

    sha = "0" * 64
    with pytest.raises(StudioError) as refused:
        needed([RemoteFile(name, 10, sha) for name in ["config.json", "tokenizer.model", *names]], "a/b")
    assert refused.value.key == "models.hub_incomplete"


def test_giving_up_deletes_what_arrived_and_nothing_else(hub: Hub, folder: Path) -> None:
    hub.rate = 300_000
    with pytest.raises(Stopped):
        fetch(folder, tell=stop_after(0.6))
    (folder / "notes.txt").write_text("mine")
    assert discard(folder) > 0
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]


def test_the_token_goes_to_its_hub_and_to_no_other_host(
    hub: Hub, folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token, hub.faults = "secret", Faults(redirect=True)
    with pytest.raises(StudioError) as refused:
        fetch(folder, "huggingface")
    assert refused.value.key == "models.hub_refused"
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(folder, "huggingface")
    proven(folder, published)


def test_the_mirror_never_gets_the_token_of_hugging_face(
    hub: Hub, folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    with pytest.raises(StudioError):
        fetch(folder, "mirror")
    assert {request.authorization for request in hub.requests} == {""}
    monkeypatch.setenv("GLMSTUDIO_MIRROR_TOKEN", "secret")
    fetch(folder, "mirror")
    proven(folder, published)


def test_the_real_clients_work_against_the_hub_of_the_tests(hub: Hub, tmp_path: Path, published: Path) -> None:
    code = (
        "import sys; from modelscope_hub.compat.snapshot_download import snapshot_download as a;"
        "from huggingface_hub import snapshot_download as b;"
        f"a({REPO!r}, local_dir=sys.argv[1]); b({REPO!r}, local_dir=sys.argv[2])"
    )
    folders = [tmp_path / "a", tmp_path / "b"]
    environment = {
        **os.environ,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "MODELSCOPE_CACHE": str(tmp_path / "ms"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, folders)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for folder in folders:
        assert weights(folder) == weights(published)
        assert (folder / "modeling_chatglm.py").exists()


def test_the_published_list_of_files(tmp_path: Path) -> None:
    from glmstudio.models.catalogue import entry
    from glmstudio.models.hub.hubs import RemoteFile, needed
    from tests.vocabulary import GOLDEN

    listed = json.loads((GOLDEN / "chatglm3-6b-files.json").read_text())["files"]
    files = needed([RemoteFile(name, about["size"], about["sha256"]) for name, about in listed.items()], "x/y")
    assert [file.name for file in files if file.name.endswith(".bin")] == [
        f"pytorch_model-0000{number}-of-00007.bin" for number in range(1, 8)
    ]
    assert {file.name for file in files} >= {"config.json", "tokenizer.model", "MODEL_LICENSE"}
    assert not any(file.name.endswith(".py") for file in files)
    assert abs(sum(file.size for file in files) / entry("chatglm3-6b").size_bytes - 1) < 1e-3


def test_an_id_of_ones_own(hub: Hub, home: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "hub", "somebody/my-glm", shard_bytes=1000)
    mine = Entry("my-glm", "my-glm", "somebody/my-glm", "somebody/my-glm")
    download(mine, home / "models" / "my-glm", Options(sources=("huggingface",)), lambda _: None)
    assert verification.is_verified(home / "models" / "my-glm") is not None
