"""What a person types or pastes to add a model: paths in every shape, and ids, which a hub is asked for first."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.cli import main
from glmstudio.errors import StudioError
from glmstudio.models import actions
from glmstudio.models.catalogue import catalogue, is_id
from glmstudio.models.family import family_named
from glmstudio.models.hub.id_lookup import add_from_hub
from glmstudio.models.inventory import item
from glmstudio.planning.model_shape import ModelShape
from glmstudio.system import typed_path
from glmstudio.system.nvml import Gpu
from glmstudio.system.typed_path import bare_path, from_windows
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.model.adding import add_from_path, render_answer
from glmstudio.ui.model.model_cards import card
from glmstudio.ui.model.model_step import render
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.page_state import ModelState
from glmstudio.words import has
from tests.downloads import NAME, REPO, begin, wait
from tests.fakes.hub import Hub
from tests.fakes.published import make_model
from tests.waiting import until

pytest_plugins = ["tests.downloads"]


@pytest.fixture
def wsl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This Linux as Windows' own; its settings file."""
    monkeypatch.setattr(typed_path, "in_wsl", lambda: True)
    monkeypatch.setattr(actions, "in_wsl", lambda: True)
    monkeypatch.setattr(typed_path, "_SETTINGS", tmp_path / "wsl.conf")
    monkeypatch.setenv("WSL_DISTRO_NAME", "Ubuntu-24.04")
    return tmp_path / "wsl.conf"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("/data/chatglm3-6b", "/data/chatglm3-6b"),
        ("  '/data/my models' \n", "/data/my models"),
        ("“~/models”", "~/models"),
        ('"C:\\Users\\ann\\chatglm3-6b" ', "C:\\Users\\ann\\chatglm3-6b"),
        ("file:///home/ann/my%20models", "/home/ann/my models"),
        ("file:///C:/Users/ann", "C:/Users/ann"),
        ("FILE://localhost/srv/m", "/srv/m"),
        ("file://wsl.localhost/Ubuntu/home", "\\\\wsl.localhost\\Ubuntu\\home"),
        ("\\\\?\\C:\\x", "C:\\x"),
        ("\"  '' \"", ""),
    ],
)
def test_what_came_along_with_a_path_is_left_out(typed: str, meant: str) -> None:
    assert bare_path(typed) == meant


@pytest.mark.parametrize(
    ("path", "here"),
    [
        ("C:\\Users\\ann\\chatglm3-6b\\", "/mnt/c/Users/ann/chatglm3-6b"),
        ("d:/models", "/mnt/d/models"),
        ("E:", "/mnt/e/"),
        ("\\\\wsl$\\Ubuntu-24.04\\home\\ann", "/home/ann"),
        ("\\\\wsl.localhost\\ubuntu-24.04\\home\\ann\\", "/home/ann"),
        ("//WSL$/Ubuntu-24.04", "/"),
        ("\\\\wsl$\\Debian\\home\\ann", ""),
        ("\\\\server\\share\\models", ""),
        ("/home/ann/C:\\x", None),
        ("chatglm3-6b", None),
        ("~\\models", None),
    ],
)
def test_paths_of_windows_are_this_linuxs(path: str, here: str | None, wsl: Path) -> None:
    assert from_windows(path) == here


@given(st.text())
def test_any_text_becomes_some_path(text: str) -> None:
    assert isinstance(from_windows(bare_path(text)), (str, type(None)))


@pytest.mark.parametrize(
    ("settings", "here"),
    [
        ('[automount]\nroot = "/windir/"\n', "/windir/c/x"),
        ("[automount]\nroot=/\n", "/c/x"),
        ("[boot]\nsystemd=true\n", "/mnt/c/x"),
        ("no settings", "/mnt/c/x"),
    ],
)
def test_windows_drives_are_where_the_settings_say(settings: str, here: str, wsl: Path) -> None:
    wsl.write_text(settings)
    assert from_windows("C:\\x") == here


def test_windows_itself_keeps_its_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert from_windows("C:\\x") is None


def refused(text: str) -> StudioError:
    with pytest.raises(StudioError) as caught:
        actions.typed(text)
    return caught.value


def test_what_leads_nowhere_is_named(home: Path, tmp_path: Path, wsl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.json"
    file.write_text("{}")
    assert refused(" '' ").what() == "No folder and no id was given."
    told = refused(f'"{file}"')
    assert (told.what(), told.fix()) == (
        f"{file} is a file, and a model is a folder.",
        f"Give the folder that it is in: {tmp_path}",
    )
    assert "another distribution of WSL" in refused("\\\\wsl$\\Debian\\x").what()
    monkeypatch.setattr(actions, "in_wsl", lambda: False)
    monkeypatch.setattr(typed_path, "in_wsl", lambda: False)
    assert refused("C:\\models").what() == "C:\\models is a path of Windows, and this machine runs another system."
    with pytest.raises(StudioError, match="is a path of Windows"):
        actions.start_download("chatglm3-6b", to="D:\\models", accept=True)


@pytest.mark.parametrize(
    "address",
    [
        "https://huggingface.co/zai-org/chatglm3-6b",
        "https://hf-mirror.com/zai-org/chatglm3-6b/tree/main",
        "https://www.modelscope.cn/models/zai-org/chatglm3-6b?x=1",
    ],
)
def test_the_address_of_a_models_page_is_its_id(address: str, home: Path) -> None:
    assert actions.typed(address) == "zai-org/chatglm3-6b"


def test_an_invented_id_is_not_in_the_catalogue(
    hub: Hub, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(tmp_path / "hub", "ann/mine", shard_bytes=1 << 16)
    assert main(["models", "add", "ann/invented"]) == 1
    assert "No hub has a model ann/invented that is open to you." in capsys.readouterr().err
    assert main(["models", "add", "ann/mine"]) == 0
    assert [name for name, entry in catalogue().items() if entry.added] == ["mine"]
    before = len(hub.requests)
    assert main(["models", "add", REPO]) == 0  # of the catalogue: nobody is asked
    assert len(hub.requests) == before


def test_the_page_asks_a_hub_and_says_so(hub: Hub, home: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "hub", "ann/mine", shard_bytes=1 << 16)

    def answered(repo: str) -> str:
        state, kept = add_from_path(ModelState(), f" {repo} ")
        assert kept.strip() == repo, "the box keeps what is being asked for"
        assert repo in render_answer("en", state)
        until(lambda: "gs-busy" not in render_answer("zh", state))
        clear_caches()
        return render_answer("en", state)

    assert "No hub has a model ann/invented" in answered("ann/invented")
    told = answered("ann/mine")
    assert "“mine” is in the catalogue and can be downloaded" in told
    assert 'data-act="download" data-model="mine"' in told, "the next step stands beside the answer"
    assert add_from_path(ModelState(), "ann/mine")[0].folder_answer == ("ui.model.added_id", {"name": "mine"})


def test_after_a_download_the_next_steps_stand_there(hub: Hub, folder: Path) -> None:
    def drawn() -> str:
        clear_caches()
        return card("en", item(NAME), ModelState(), used=False)

    assert "What next?" not in drawn()
    begin(folder)
    assert wait(folder).state == "done"
    html = drawn()
    assert "It is downloaded and verified. What next?" in html
    for step in ("finetune", "chat"):
        assert f'data-act="use" data-model="{NAME}" data-go="{step}"' in html


def test_hubs_that_do_not_answer_are_no_proof(home: Path) -> None:
    with pytest.raises(StudioError) as caught:
        add_from_hub("ann/mine")
    assert caught.value.key == "models.hub_unreachable"
    assert not any(entry.added for entry in catalogue().values())


GLM4_9B = ModelShape(layers=40, hidden=4096, ffn=13696, heads=32, groups=2, head_dim=128, vocab=151552)


def test_more_models_are_offered_to_whoever_asks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = [entry for entry in catalogue().values() if entry.more]
    assert [entry.title for entry in more] == [
        "GLM-4-9B-Chat", "GLM-4-9B", "GLM-4-9B-0414", "GLM-Z1-9B-0414", "GLM-Edge-1.5B-Chat", "GLM-Edge-4B-Chat",
    ]  # fmt: skip
    for entry in more:
        assert is_id(entry.modelscope)
        assert is_id(entry.huggingface)
        assert has(f"catalogue.{entry.name}.about")
        assert family_named(entry.name) == ""
    assert catalogue()["glm-4-9b-chat"].size_bytes == round(2 * GLM4_9B.parameters, -3)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=8 << 30))
    clear_caches()
    for lang, title, small, large in (
        (
            "en",
            "More models (6)",
            "Fits the main memory, 8.0 GiB; slow without a GPU",
            "Too large for the main memory, 8.0 GiB",
        ),
        ("zh", "更多模型（6）", "本机内存（8.0 GiB）放得下；没有显卡，速度较慢", "超过本机内存（8.0 GiB）"),
    ):
        page = str(render(lang, ModelState()))
        shown, folded = page.split('data-key="more-models"')
        assert title in folded
        assert [entry.title in shown for entry in more[:1]] == [False]
        assert all(f'data-key="model-{entry.name}"' in folded for entry in more)
        assert (folded.count(small), folded.count(large)) == (1, 4)
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(total=24 << 30)
    )  # a CPU computes with 32 bits
    assert str(render("en", ModelState())).count("Too large for the main memory, 24.0 GiB") == 4
    for total, fitting in ((80, 5), (16, 1)):
        gpu = Gpu(0, "GPU", "u", total << 10, total << 10, 40, ())
        monkeypatch.setattr(CHECKUP, "gpus", lambda gpu=gpu: (gpu,))
        page = str(render("en", ModelState()))
        assert page.count(f"Fits this machine: the GPU has {total}.0 GiB") == fitting
        assert page.count(f"Too large for the GPU of this machine, which has {total}.0 GiB") == 5 - fitting
