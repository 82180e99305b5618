"""What a folder, a hub or a person may do to the model manager, and what must not come of it."""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from glmstudio.cli import main
from glmstudio.errors import StudioError
from glmstudio.models import actions, catalogue, jobs, list_models, manifest, verification
from glmstudio.models.hub.download import WORK, discard, lock
from glmstudio.models.inventory import inventory, item
from glmstudio.models.jobs import Stopped
from glmstudio.models.library import place_of
from glmstudio.models.verify import verify
from glmstudio.system.process import Identity, alive
from tests.downloads import NAME, begin, flip, total, wait, wait_for_bytes
from tests.fakes.hub import Hub
from tests.fakes.published import make_model
from tests.models import REPO, fetch, weights

pytest_plugins = ["tests.downloads"]

SHARD = "pytorch_model-00001-of-00002.bin"


@pytest.fixture
def here(hub: Hub, folder: Path) -> Path:
    """The model, downloaded."""
    fetch(folder)
    return folder


def keep_time(file: Path, change: object) -> None:
    """Change a file as a dying disk does: its time stays."""
    about = file.stat()
    change(file)  # type: ignore[operator]
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def stop(folder: Path, share: float = 0.3) -> None:
    def tell(progress: object) -> None:
        if progress.phase == "fetching" and progress.done > share * progress.total:  # type: ignore[attr-defined]
            raise Stopped

    with pytest.raises(Stopped):
        fetch(folder, tell=tell)


# ---- never a wrong file called ready


def test_bytes_that_rot_without_a_new_time_are_repaired(here: Path, published: Path) -> None:
    keep_time(here / SHARD, lambda file: flip(file, 70_000))
    assert [problem.key for problem in verify(here, full=True)] == ["models.wrong_bytes"]
    assert main(["models", "repair", NAME]) == 0
    assert weights(here) == weights(published)


def test_a_file_that_is_changed_while_others_arrive_is_not_stamped(hub: Hub, folder: Path) -> None:
    def tell(progress: object) -> None:
        file = folder / "tokenizer.model"
        if progress.done > progress.total / 2 and file.exists():  # type: ignore[attr-defined]
            file.write_bytes(b"x" * file.stat().st_size)

    with pytest.raises(StudioError) as wrong:
        fetch(folder, tell=tell)
    assert wrong.value.key == "models.wrong_bytes"
    assert verification.is_verified(folder) is None


def test_weights_that_would_be_used_instead_are_named(hub: Hub, folder: Path, tmp_path: Path) -> None:
    foreign = make_model(tmp_path / "other", "a/b", layout="safetensors", shard_bytes=100)
    folder.mkdir(parents=True)
    for file in foreign.glob("*.safetensors*"):
        shutil.copy(file, folder)
    with pytest.raises(StudioError) as named:
        fetch(folder, layout="bin", replace=True)
    assert named.value.key == "models.other_weights"
    assert verification.is_verified(folder) is None


def test_two_revisions_are_never_one_model(here: Path, hub: Hub, tmp_path: Path, published: Path) -> None:
    make_model(tmp_path / "hub", REPO, shard_bytes=1 << 20, seed=7)
    hub.rate = 2e6
    stop(here, 0.6)
    hub.rate = 0
    assert "models.unfinished" in [problem.key for problem in verify(here, full=True)]
    assert item(NAME).state != "ready"
    discard(here)  # a model that was whole once is not thrown away with the new pieces
    assert (here / SHARD).exists()
    fetch(here)
    assert weights(here) == weights(published)
    assert verify(here, full=True) == []


# ---- nothing of the user's is deleted or overwritten


def test_links_under_our_names_are_not_followed(here: Path, hub: Hub, tmp_path: Path, published: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    for name in ("thesis.txt", "tokenizer.model.part", "a.pieces"):
        (documents / name).write_text("mine")
    (here / WORK).symlink_to(documents)
    (here / "tokenizer.model").unlink()
    assert main(["models", "repair", NAME]) == 0
    assert {file.read_text() for file in documents.iterdir()} == {"mine"}
    assert len(list(documents.iterdir())) == 3
    (here / WORK).mkdir()
    (here / WORK / "tokenizer.model.part").symlink_to(documents / "thesis.txt")
    (here / WORK / "tokenizer.model.pieces").symlink_to(documents / "a.pieces")
    (here / "tokenizer.model").unlink()
    fetch(here)
    assert {file.read_text() for file in documents.iterdir()} == {"mine"}
    assert weights(here) == weights(published)


def test_giving_up_keeps_what_was_there_before(hub: Hub, tmp_path: Path, published: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.copy(published / SHARD, mine)
    hub.rate = 1e6
    stop(mine, 0.7)
    assert discard(mine) > 0
    assert [file.name for file in mine.iterdir()] == [SHARD]


def test_a_tuned_model_is_not_replaced_by_the_published_one(hub: Hub, tmp_path: Path, published: Path) -> None:
    tuned = make_model(tmp_path / "elsewhere", "me/tuned", shard_bytes=5000, seed=3)
    config = json.loads((tuned / "config.json").read_text())
    (tuned / "config.json").write_text(json.dumps(config | {"_name_or_path": "THUDM/chatglm3-6b"}))
    (tuned / "tokenizer.model").write_bytes(b"")
    before = weights(tuned)
    actions.start_repair(str(tuned))
    assert wait(tuned).problem.key == "models.not_published"
    with pytest.raises(StudioError) as refused:
        fetch(tuned)
    assert refused.value.key == "models.not_published"
    assert weights(tuned) == before
    actions.start_repair(str(tuned), known_as=NAME)
    assert wait(tuned).state == "done"
    assert weights(tuned) == weights(published)


def test_giving_up_in_one_studio_leaves_the_others_download(hub: Hub, folder: Path, home: Path) -> None:
    hub.rate = 1e6
    stop(folder)
    with lock(folder):
        with pytest.raises(StudioError) as refused:
            discard(folder)
        assert refused.value.key == "models.locked"
        begin(folder)
        assert wait(folder).problem.key == "models.locked"
        assert actions.cancel(NAME) == 0
    assert list((folder / WORK).glob("*.part"))


def test_nothing_is_removed_under_a_job(hub: Hub, folder: Path) -> None:
    hub.rate = 300_000
    begin(folder)
    wait_for_bytes(hub, 200_000)
    with pytest.raises(StudioError) as busy:
        actions.delete(NAME)
    assert busy.value.key == "models.job_busy"
    jobs.pause(folder)
    assert actions.delete(NAME) > 0
    assert item(NAME).state == "absent"


# ---- places


def test_another_folder_counts_although_the_first_one_was_begun(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.rate = 1e6
    stop(folder, 0.7)
    with pytest.raises(StudioError) as elsewhere:
        actions.start_download(NAME, to=str(tmp_path / "big"))
    assert elsewhere.value.key == "models.elsewhere"
    discard(folder)
    (folder).mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    hub.rate = 0
    assert main(["models", "download", NAME, "--from", "modelscope", "--to", str(tmp_path / "big")]) == 0
    assert (item(NAME).folder, item(NAME).state) == (tmp_path / "big", "ready")


def test_a_place_is_forgotten_with_its_download(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.rate = 300_000
    actions.start_download(NAME, source="modelscope", to=str(tmp_path / "big"))
    wait_for_bytes(hub, 100_000)
    actions.cancel(NAME)
    assert not (tmp_path / "big").exists()
    assert (item(NAME).state, place_of(NAME)) == ("absent", folder)


@pytest.mark.parametrize("to", ["~nosuchuser/x", "a\0b"])
def test_a_folder_that_no_disk_can_have(to: str, hub: Hub) -> None:
    with pytest.raises(StudioError) as refused:
        actions.start_download(NAME, to=to)
    assert refused.value.key == "models.unwritable"


# ---- hostile files


@pytest.mark.parametrize(
    "head",
    [
        '{"piece": 1000000000000000, "size": SIZE, "sum": "SUM"}',
        '{"piece": true, "size": SIZE, "sum": "SUM"}',
        "[" * 100_000,
    ],
)
def test_a_journal_from_elsewhere_stops_nothing(head: str, hub: Hub, folder: Path, published: Path) -> None:
    hub.rate = 1e6
    stop(folder)
    hub.rate = 0
    journal = next((folder / WORK).glob("*.pieces"))
    true = json.loads(journal.read_text().split("\n")[0])
    text = head.replace("SIZE", str(true["size"])).replace("SUM", true["sum"])
    journal.write_text(f"{text}\n{'9' * 5000} 1\n0 {'9' * 5000}\n-1 5\n")
    fetch(folder)
    assert weights(folder) == weights(published)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "null", '{"files": {"sub/..": {"sha256": "%s"}}, "converted": ["../x"]}' % ("0" * 64)]
)
def test_a_manifest_from_elsewhere_stops_nothing(text: str, here: Path) -> None:
    (here / manifest.NAME).write_text(text)
    assert len(inventory()) >= 4
    assert verify(here) == []
    assert actions.delete(NAME) > 0
    assert not (here / SHARD).exists()


def test_a_manifest_that_is_a_folder(here: Path) -> None:
    (here / manifest.NAME).unlink()
    (here / manifest.NAME).mkdir()
    assert item(NAME).state == "ready"
    assert [model.name for model in list_models()] == ["demo", NAME]


def test_an_encrypted_archive_is_wrong_bytes(here: Path) -> None:
    data = bytearray((here / SHARD).read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    (here / SHARD).write_bytes(data)
    (here / manifest.NAME).unlink()
    assert zipfile.is_zipfile(here / SHARD)
    assert [problem.key for problem in verify(here, full=True)] == ["models.wrong_bytes"]


def test_another_kind_of_model_is_refused_before_its_weights_arrive(
    hub: Hub,
    folder: Path,
    published: Path,
) -> None:
    config = json.loads((published / "config.json").read_text())
    (published / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    hub.rate = 400_000
    with pytest.raises(StudioError) as foreign:
        fetch(folder)
    assert foreign.value.key == "models.other_family"
    assert hub.sent() < total(published) / 2
    assert discard(folder) > 0
    assert not folder.exists()


# ---- states


def test_a_worker_whose_job_was_given_up_leaves_without_a_word(hub: Hub, folder: Path, home: Path) -> None:
    hub.rate = 100_000
    begin(folder)
    wait_for_bytes(hub, 30_000)
    place = next((home / "state" / "jobs").iterdir())
    about = json.loads((place / "job.json").read_text())
    (place / "job.json").write_text(json.dumps(about | {"run_id": "another"}))
    (place / "status.json").write_text('{"state": "paused"}')
    identity = Identity.from_json(about["identity"])
    for _ in range(200):
        if not alive(identity):
            break
        time.sleep(0.05)
    assert not alive(identity)
    assert json.loads((place / "status.json").read_text()) == {"state": "paused"}


def test_paused_before_it_could_say_anything(hub: Hub, folder: Path) -> None:
    begin(folder)
    jobs.pause(folder)
    assert jobs.read(folder).state in ("paused", "done")


def test_what_went_wrong_at_each_source_is_said_in_the_readers_language(home: Path) -> None:
    inner = StudioError("models.hub_unreachable", host="x")
    told = StudioError("models.no_source", title="T", problems=(inner, inner))
    again = StudioError.from_json(json.loads(json.dumps(told.to_json())))
    assert again.what("zh") == "所有来源都无法下载 T。x 没有响应。 x 没有响应。"
    assert catalogue.is_id("a/b")


@pytest.fixture(autouse=True)
def _nothing_runs_on(home: Path) -> Iterator[None]:
    yield
    for file in (home / "state" / "jobs").glob("*/job.json"):
        jobs.pause(Path(json.loads(file.read_text())["folder"]))
