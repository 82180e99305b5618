"""A run's result at a hub: private unless asked otherwise, only what is part of it, and a second try goes on.

The real clients of Hugging Face and ModelScope send it to a hub of this machine (`tests/fakes/upload_hub.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.cli import main
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.models.exports.export_request import TOOL_PARSER
from glmstudio.models.hub.upload import check_repo
from glmstudio.paths import paths
from glmstudio.rundir.run import Run
from glmstudio.runs.publishing import publish_run as publishing
from glmstudio.runs.publishing.publish_run import Publication, checked, publish_run, publishable
from tests.fakes.upload_hub import UploadHub

TOKEN = "hf_the-user-s-own"
HUBS = ("huggingface", "modelscope")
PUBLISHED = {
    "native": {
        "README.md", "config.json", "generation_config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja", TOOL_PARSER,
    },
    "peft": {"README.md", "adapter_config.json", "adapter_model.safetensors"},
}  # fmt: skip
STRANGERS = ("train.log", "data.jsonl", ".env", "optimizer.pt", "run.json", "notes.md", "model.safetensors.bak")


@pytest.fixture
def hub(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    with UploadHub(tmp_path / "hub", TOKEN) as made:
        for name, value in {
            "HF_ENDPOINT": made.url, "MODELSCOPE_ENDPOINT": made.url, "HF_TOKEN": TOKEN, "MODELSCOPE_API_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1", "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"),
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield made


def a_run(method: str = "lora") -> Run:
    folder = paths().runs / "mine"
    (folder / "result").mkdir(parents=True)
    write_json(folder / "run.json", {"settings": {"model": "demo", "method": method}, "created": 1.0})
    write_json(folder / "status.json", {"state": "finished"})
    write_json(folder / "result" / "adapter.json", {"base": "demo"})
    return Run("mine", folder)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Exports are made in an instant here, and their folders hold more than they should; the forms that were made."""
    made: list[str] = []

    def export(run: Run, form: str, target: Path, **_: Any) -> Path:
        made.append(form)
        target.mkdir(parents=True)
        base = str(paths().home / "native")
        for name in (*PUBLISHED[form], *STRANGERS):
            (target / name).write_text(f"{name} of {base}" if name == "README.md" else name)
        for name in PUBLISHED[form]:
            if name.endswith(".safetensors"):
                (target / name).write_bytes(name.encode() * 10_000)
        if form == "peft":
            write_json(target / "adapter_config.json", {"base_model_name_or_path": base})
        (target / "model-00009-of-00009.safetensors").symlink_to("/etc/passwd")
        return target

    monkeypatch.setattr(publishing, "export_run", export)
    monkeypatch.setattr(publishing, "native_base", lambda _: str(paths().home / "native"))
    return made


@pytest.mark.parametrize("name", HUBS)
def test_what_is_part_of_the_result_is_published_privately_and_nothing_else(
    hub: UploadHub, exported: list[str], name: str
) -> None:
    run = a_run()
    assert publishable(run) == ("native", "gguf", "peft", "gguf-lora")
    address = publish_run(run, Publication(name, "me/my-glm", "native"))
    assert address == f"{hub.url}/{'models/' if name == 'modelscope' else ''}me/my-glm"
    assert hub.private == {"me/my-glm": True}
    files = hub.files("me/my-glm")
    assert {*files} == PUBLISHED["native"]
    assert files["README.md"] == b"README.md of demo"
    assert files["model-00002-of-00002.safetensors"] == b"model-00002-of-00002.safetensors" * 10_000
    assert len(hub.commits) == 1
    assert not list((paths().cache / "publish").iterdir())
    publish_run(run, Publication(name, "me/sent", "peft", private=False))
    assert hub.private["me/sent"] is False
    files = hub.files("me/sent")
    assert {*files} == PUBLISHED["peft"]
    assert json.loads(files["adapter_config.json"]) == {"base_model_name_or_path": "demo"}
    everything = b"".join(content for repo in hub.private for content in hub.files(repo).values())
    assert str(paths().home).encode() not in everything


@pytest.mark.parametrize("name", HUBS)
def test_a_second_try_goes_on_where_the_first_one_was_interrupted(
    hub: UploadHub, exported: list[str], name: str
) -> None:
    run, asked = a_run(), Publication(name, "me/my-glm", "native")
    hub.refused_commits = 1
    with pytest.raises(StudioError) as error:
        publish_run(run, asked)
    assert error.value.key == {"huggingface": "publish.refused", "modelscope": "publish.broke"}[name]
    sent = [*hub.sent]
    assert len(sent) == {"huggingface": 2, "modelscope": 3}[name]  # weights, and there the vocabulary
    assert hub.files("me/my-glm") == {}
    publish_run(run, asked)
    assert {*hub.files("me/my-glm")} == PUBLISHED["native"]
    assert (hub.sent, exported) == (sent, ["native"])  # neither sent nor exported again


@pytest.mark.parametrize("name", HUBS)
def test_a_repository_that_everybody_sees_gets_nothing_private(hub: UploadHub, exported: list[str], name: str) -> None:
    run = a_run()
    hub.private = {"me/open": False, "me/closed": True}
    for repo, private, key in (("me/open", True, "publish.is_public"), ("me/closed", False, "publish.is_private")):
        with pytest.raises(StudioError) as error:
            publish_run(run, Publication(name, repo, "peft", private=private))
        assert error.value.key == key
    assert (hub.sent, hub.commits) == ([], [])


@pytest.mark.parametrize(("name", "title", "line"), [
    ("huggingface", "Hugging Face", "hf auth login"), ("modelscope", "ModelScope", "modelscope login"),
])  # fmt: skip
def test_without_a_login_it_says_how(
    hub: UploadHub, exported: list[str], monkeypatch: pytest.MonkeyPatch, name: str, title: str, line: str
) -> None:
    run, asked = a_run(), Publication(name, "me/x", "peft")
    variable = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}[name]
    monkeypatch.setenv(variable, "hf_another-one")
    with pytest.raises(StudioError) as error:
        publish_run(run, asked)
    assert error.value.what("en") == f"{title} refused access to me/x (HTTP 401)."
    monkeypatch.delenv(variable)
    with pytest.raises(StudioError) as error:
        publish_run(run, asked)
    assert f"{error.value.what('en')} {error.value.fix('en')}" == (
        f"Nobody is logged in to {title} on this machine. "
        f"Log in with `{line}` in a terminal, or set the variable {variable}, and try again."
    )


def test_a_text_that_names_a_folder_of_this_machine_stops_it(
    hub: UploadHub, exported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "native_base", lambda _: "")
    with pytest.raises(StudioError) as error:
        publish_run(a_run(), Publication("huggingface", "me/x", "peft"))
    assert (error.value.key, error.value.values["file"]) == ("publish.path_inside", "README.md")
    assert hub.calls == []


def test_what_cannot_be_published_is_said_first(home: Path) -> None:
    run = a_run("ptuning_v2")
    assert publishable(run) == ("peft",)
    assert checked(run, Publication("modelscope", " me/x ", "")) == Publication("modelscope", "me/x", "peft")
    for asked, key in (
        (Publication("github", "me/x", ""), "publish.no_hub"),
        (Publication("modelscope", "me", ""), "publish.bad_repo"),
        (Publication("modelscope", "me/x", "native"), "publish.no_such_form"),
        (Publication("modelscope", "me/x", "peft", kind="q8_0"), "exports.no_such_type"),
    ):
        with pytest.raises(StudioError) as error:
            checked(run, asked)
        assert error.value.key == key


@given(st.text(max_size=40) | st.from_regex(r"[\w./-]{1,30}/[\w./-]{1,30}"))
def test_a_name_leads_nowhere_else(text: str) -> None:
    try:
        repo = check_repo(text)
    except StudioError:
        return
    owner, name = repo.split("/")
    assert owner.isascii()
    assert name.isascii()
    assert ".." not in repo
    assert not owner.startswith(".")
    assert not name.startswith(".")


def test_the_command_asks_first(
    hub: UploadHub, exported: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run()
    words = ["runs", "publish", "mine", "--to", "huggingface", "--repo", "me/my-glm", "--as", "peft"]
    assert main(words) == 1
    assert hub.calls == []
    asked: list[str] = []
    monkeypatch.setattr("glmstudio.cli.runs.confirmed", lambda question: bool(asked.append(question)))
    assert main(words) == 1
    assert asked == [
        "Publish mine as peft at Hugging Face: me/my-glm, private (only you and those you admit)? The weights or adapter and "
        "a README are sent; data, logs and conversations are not."
    ]
    capsys.readouterr()
    assert main([*words, "--yes"]) == 0
    assert capsys.readouterr().out == f"Published: {hub.url}/me/my-glm\n"


@pytest.mark.slow
def test_a_real_adapter_is_published_and_read_again(hub: UploadHub, tmp_path: Path) -> None:
    from tests.adapters import lora

    run = a_run()
    lora(run.path / "result", 2)
    publish_run(run, Publication("modelscope", "me/adapter", "peft"))
    files = hub.files("me/adapter")
    assert {*files} == PUBLISHED["peft"]
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "demo"
    assert files["adapter_model.safetensors"] == (run.path / "result" / "adapter_model.safetensors").read_bytes()
    card = files["README.md"].decode()
    assert card.startswith("---\nlicense: ")
    assert "# adapter\n" in card
    assert os.path.expanduser("~") not in card
