"""Downloads as processes: paused, killed, resumed, started twice; and what is done with a model once it is here."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from sentencepiece import SentencePieceTrainer

from glmstudio.cli import main
from glmstudio.errors import StudioError
from glmstudio.models import actions, jobs, manifest, ready_model, verification
from glmstudio.models.inventory import item
from glmstudio.models.library import find_model
from glmstudio.models.verify import verify
from glmstudio.system.process import Identity, send
from tests.downloads import NAME, PIECE, begin, flip, total, wait, wait_for_bytes
from tests.fakes.hub import Faults, Hub
from tests.fakes.published import make_model
from tests.models import weights

pytest_plugins = ["tests.downloads"]

SHARD = "pytorch_model-00002-of-00002.bin"


def test_download_pause_resume_and_what_is_told(hub: Hub, folder: Path, published: Path) -> None:
    hub.rate = 400_000
    assert item(NAME).state == "absent"
    begin(folder)
    wait_for_bytes(hub, 200_000)
    assert item(NAME).state == "downloading"
    with pytest.raises(StudioError) as twice:
        actions.start_download(NAME)
    assert twice.value.what("zh") == "“chatglm3-6b”正在处理中。"
    actions.pause(NAME)
    paused = wait(folder)
    assert (paused.state, item(NAME).state) == ("paused", "paused")
    assert 0 < paused.done < paused.total == total(published)
    with pytest.raises(StudioError) as early:
        ready_model(NAME)
    assert early.value.key in ("models.not_here", "models.no_weights", "models.missing_file")
    hub.rate, before = 0, hub.sent()
    actions.resume(NAME)
    done = wait(folder)
    assert (done.state, done.done, item(NAME).state) == ("done", total(published), "ready")
    assert weights(folder) == weights(published)
    assert hub.sent() - before <= total(published) - paused.done, "what is here is not fetched again"


def kill_and_resume(times: int, hub: Hub, folder: Path, published: Path, seed: int) -> None:
    """SIGKILL at random moments; at most a piece for each connection is fetched twice, and the files are right."""
    chance, kills = random.Random(seed), 0
    hub.rate = 60_000
    begin(folder)
    while kills < times and (job := jobs.read(folder)):
        if not job.live:
            assert job.state == "interrupted", job
            begin(folder)
        time.sleep(0.35 + chance.random() * 0.5)
        identity = Identity.from_json(
            json.loads(next(folder.parents[1].glob("state/jobs/*/job.json")).read_text())["identity"]
        )
        if identity is not None and send(identity, signal.SIGKILL):
            kills += 1
            wait(folder)
            assert jobs.read(folder).state == "interrupted"
            assert verification.is_verified(folder) is None
    hub.rate = 0
    begin(folder)
    assert wait(folder).state == "done"
    assert weights(folder) == weights(published)
    assert hub.sent() <= total(published) + times * 4 * PIECE


@pytest.mark.slow
def test_killed_a_few_times_at_random(hub: Hub, folder: Path, published: Path) -> None:
    kill_and_resume(4, hub, folder, published, seed=1)


@pytest.mark.slow
def test_killed_twenty_times_at_random(hub: Hub, folder: Path, published: Path) -> None:
    kill_and_resume(20, hub, folder, published, seed=2)


def test_two_clicks_at_once_start_one_download(hub: Hub, folder: Path) -> None:
    import threading

    hub.rate = 400_000
    told: list[str] = []

    def click() -> None:
        try:
            begin(folder)
            told.append("started")
        except StudioError as refused:
            told.append(refused.key)

    clicks = [threading.Thread(target=click) for _ in range(4)]
    for each in clicks:
        each.start()
    for each in clicks:
        each.join()
    assert sorted(told) == ["models.job_busy"] * 3 + ["started"]
    jobs.pause(folder)


def test_repair_fetches_the_broken_piece_and_nothing_else(hub: Hub, folder: Path, published: Path) -> None:
    begin(folder)
    wait(folder)
    flip(folder / SHARD, 500_000)
    actions.start_verify(NAME)
    verified = wait(folder)
    assert [problem.key for problem in verified.problems] == ["models.wrong_bytes"]
    assert item(NAME).state == "broken"
    before = hub.sent()
    actions.start_repair(NAME)
    assert wait(folder).state == "done"
    assert item(NAME).state == "ready"
    assert weights(folder) == weights(published)
    assert hub.sent() - before == PIECE


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / SHARD).unlink(),
        lambda folder: (folder / SHARD).write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        lambda folder: (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-1]),
        lambda folder: flip(folder / SHARD, 5),
    ],
    ids=["gone", "pointer", "cut", "flipped"],
)
def test_a_folder_from_elsewhere_gets_the_same(
    damage: object, hub: Hub, home: Path, tmp_path: Path, published: Path
) -> None:
    mine = tmp_path / "克隆 of chatglm3-6b"
    shutil.copytree(published, mine)
    config = json.loads((mine / "config.json").read_text())
    (mine / "config.json").write_text(json.dumps(config))
    damage(mine)  # type: ignore[operator]
    before = hub.sent()
    actions.start_repair(str(mine), known_as=NAME)
    assert wait(mine).state == "done"
    assert weights(mine) == weights(published)
    changed = (published / SHARD).stat().st_size + len(weights(published)["config.json"])
    assert hub.sent() - before == changed
    assert (mine / "README.md").exists()


@pytest.mark.parametrize("harm", ["no index", "other index", "bad index", "web page", "cut vocabulary", "second set"])
def test_a_repair_ends_whole_or_with_something_new(
    harm: str, hub: Hub, home: Path, tmp_path: Path, published: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(published, mine)
    config, index = json.loads((mine / "config.json").read_text()), mine / "pytorch_model.bin.index.json"
    (mine / "config.json").write_text(json.dumps(config | {"_name_or_path": "THUDM/chatglm3-6b"}))
    vocabulary, other = mine / "tokenizer.model", {"weight_map": {"a": "pytorch_model-00007-of-00007.bin"}}
    {
        "no index": index.unlink,
        "other index": lambda: index.write_text(json.dumps(other)),
        "bad index": lambda: index.write_text("{"),
        "web page": lambda: vocabulary.write_text("<!DOCTYPE html><html>Log in</html>"),
        "cut vocabulary": lambda: vocabulary.write_bytes(vocabulary.read_bytes()[:9000]),
        "second set": lambda: (mine / "model.safetensors").write_bytes(b"cut"),
    }[harm]()
    assert main(["models", "repair", str(mine), "--from", "modelscope"]) == 0
    assert verify(mine, full=True) == []
    kept = {name: data for name, data in weights(mine).items() if name != "config.json" and "index" not in name}
    assert kept.items() <= weights(published).items()
    assert hub.sent() < 200_000  # never the weights


def test_where_a_folder_came_from_is_read_from_its_own_description(tmp_path: Path, published: Path, home: Path) -> None:
    from glmstudio.models.repair import origin

    config = json.loads((published / "config.json").read_text())
    (published / "config.json").write_text(json.dumps(config | {"_name_or_path": "THUDM/chatglm3-6b-32k"}))
    assert origin("mine", published).name == "chatglm3-6b-32k"
    (published / "config.json").write_text(json.dumps(config | {"_name_or_path": "x"}))
    elsewhere = published.rename(published.parent / "unnamed")
    with pytest.raises(StudioError) as unknown:
        origin("mine", elsewhere)
    assert unknown.value.fix("en") == "Name it: `python launcher.py models repair DIR --as chatglm3-6b`."


def test_large_models_need_the_stamp(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(folder)
    wait(folder)
    monkeypatch.setattr("glmstudio.models.library._SMALL", 1000)
    assert ready_model(NAME).ready
    (folder / "tokenizer.model").touch()
    with pytest.raises(StudioError) as unverified:
        ready_model(NAME)
    assert unverified.value.key == "models.unverified"
    assert item(NAME).state == "unverified"
    assert main(["models", "verify", NAME, "--full", "--json"]) == 0
    assert ready_model(NAME).ready
    flip(folder / SHARD, 77)
    assert main(["models", "verify", NAME, "--full", "--json"]) == 1
    assert not find_model(NAME).ready


def test_a_small_model_is_verified_when_it_is_used(hub: Hub, folder: Path) -> None:
    begin(folder)
    wait(folder)
    flip(folder / SHARD, 77)
    with pytest.raises(StudioError) as wrong:
        ready_model(NAME)
    assert wrong.value.key == "models.wrong_bytes"


def test_cancel_and_remove_say_what_they_free(
    hub: Hub, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    hub.rate = 300_000
    begin(folder)
    wait_for_bytes(hub, 300_000)
    assert main(["models", "cancel", NAME]) == 0
    assert "was cancelled" in capsys.readouterr().out
    assert not folder.exists()
    assert item(NAME).state == "absent"
    hub.rate = 0
    begin(folder)
    wait(folder)
    (folder / "my notes.txt").write_text("mine")
    assert main(["models", "remove", NAME]) == 1  # nobody can be asked
    assert folder.exists()
    capsys.readouterr()
    assert main(["models", "remove", NAME, "--yes"]) == 0
    assert capsys.readouterr().out == "“chatglm3-6b” is deleted; 2.1 MB were freed.\n"
    assert [file.name for file in folder.iterdir()] == ["my notes.txt"]
    for name in ("demo", "../x", "nothing"):
        with pytest.raises(StudioError):
            actions.delete(name)


def test_what_is_in_use_is_not_taken_away(hub: Hub, folder: Path, home: Path) -> None:
    from glmstudio.files import write_json
    from glmstudio.rundir.occupancy import refuse_in_use
    from glmstudio.system.process import identify

    begin(folder)
    wait(folder)
    refuse_in_use(NAME, folder)
    me = identify(__import__("os").getpid())
    about = {"settings": {"model": NAME, "steps": 5}, "supervisor": me.to_json(), "created": time.time()}
    write_json(home / "runs" / "first" / "run.json", about)
    assert main(["models", "remove", NAME, "--yes"]) == 1
    with pytest.raises(StudioError) as refused:
        refuse_in_use(NAME, folder)
    assert refused.value.what("en") == "“chatglm3-6b” is in use: the run “first” is training on it."
    assert weights(folder)


def test_the_command_downloads_to_another_disk_and_lists(
    hub: Hub,
    home: Path,
    tmp_path: Path,
    published: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    target = tmp_path / "other disk" / "模型"
    assert main(["models", "download", NAME, "--to", str(target), "--connections", "2"]) == 0
    assert capsys.readouterr().out == f"“chatglm3-6b” is ready in {target}; every file is verified.\n"
    assert weights(target) == weights(published)
    assert main(["models", "--json"]) == 0
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == NAME)
    assert row == {
        "name": NAME, "path": str(target), "kind": "chatglm3", "ready": True, "state": "ready", "problem": None,
        "size_bytes": row["size_bytes"],
    }  # fmt: skip
    assert main(["models", "verify", NAME, "--full", "--json"]) == 0
    assert main(["models", "remove", NAME]) == 0
    assert weights(target)


def test_a_failure_is_one_sentence_and_a_hint(
    hub: Hub, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    hub.faults = Faults(listing_errors=(403,) * 9)
    assert main(["models", "download", NAME, "--from", "modelscope"]) == 1
    assert capsys.readouterr().err == (
        "error: 127.0.0.1 denies access to ZhipuAI/chatglm3-6b.\n\nhint: It may need an account: set HF_TOKEN or "
        "MODELSCOPE_API_TOKEN, or choose another source.\n"
    )
    assert item(NAME).state == "stopped"


def test_the_licence_comes_first(home: Path) -> None:
    with pytest.raises(StudioError) as refused:
        actions.start_download(NAME)
    assert refused.value.key == "models.licence"
    assert not (home / "models").exists()


def test_ids_are_added_and_removed(hub: Hub, home: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "hub", "somebody/my-glm", shard_bytes=1 << 16)
    assert main(["models", "add", "somebody/my-glm"]) == 0
    assert item("my-glm").state == "absent"
    assert main(["models", "remove", "my-glm"]) == 0
    for wrong in ("a/../b", "a/b/c", "/x", "a b/c"):
        assert main(["models", "add", wrong]) == 1
    assert manifest.read(home) == {}


@pytest.fixture
def real(published: Path, hub: Hub, folder: Path) -> Path:
    """A model that torch can read, downloaded."""
    import shutil

    for file in published.glob("*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    shutil.copytree(Path(__file__).parent / "golden" / "model", published, dirs_exist_ok=True)
    # A vocabulary for which the weights have rows.
    text = iter(f"{chr(0x4E00 + n % 100)} word{n} {n * 7919 % 10007}x" for n in range(2000))
    with (published / "tokenizer.model").open("wb") as file:
        SentencePieceTrainer.train(sentence_iterator=text, model_writer=file, vocab_size=300, minloglevel=2)
    begin(folder)
    assert wait(folder).state == "done"
    return folder


@pytest.mark.slow  # 19 s
def test_convert_beside_the_originals_then_in_their_place(real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = verification.is_verified(real)
    assert main(["models", "convert", NAME]) == 0
    assert sorted(file.suffix for file in real.glob("*model*-0*")) == [".bin", ".bin", ".safetensors", ".safetensors"]
    assert verification.is_verified(real) > before
    assert item(NAME).state == "ready"
    assert main(["models", "verify", NAME, "--full"]) == 0
    assert main(["models", "convert", NAME]) == 1
    assert "safetensors in float16 already" in capsys.readouterr().err
    assert item(NAME).state == "ready"
    for file in real.glob("model-*"):
        file.unlink()
    (real / "model.safetensors.index.json").unlink()
    assert main(["models", "convert", NAME, "--dtype", "bfloat16", "--replace"]) == 0
    assert sorted(file.suffix for file in real.glob("*model*-0*")) == [".safetensors", ".safetensors"]
    assert main(["models", "verify", NAME, "--full"]) == 0
    assert not (real / ".convert").exists()
    assert not (real / ".download").exists()


@pytest.mark.slow  # 7 s
def test_damaged_weights_are_not_converted(real: Path) -> None:
    verification.forget(real)
    flip(real / SHARD, 100_000)
    actions.start_convert(NAME)
    assert [wait(real).problem.key, item(NAME).job.state] == ["models.wrong_bytes", "failed"]
    assert not list(real.glob("*.safetensors"))


@pytest.mark.slow  # 7 s
def test_a_broken_conversion_is_repaired_by_the_published_files(real: Path, hub: Hub, published: Path) -> None:
    assert main(["models", "convert", NAME, "--replace"]) == 0
    (real / "tokenizer.model").write_bytes(b"other")
    before = hub.sent()
    assert main(["models", "repair", NAME]) == 0  # the converted weights are right, so nothing large is fetched
    assert hub.sent() - before == (published / "tokenizer.model").stat().st_size
    flip(next(real.glob("model-00001*")), 100_000)
    assert main(["models", "repair", NAME]) == 0
    assert item(NAME).state == "ready"
    assert weights(real) == weights(published)
    assert not list(real.glob("*.safetensors"))
