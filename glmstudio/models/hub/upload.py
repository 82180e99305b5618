"""A folder to a repository at a hub, by the hub's own client and the user's own login, in a process of its own:
`python -m glmstudio.models.hub.upload REQUEST`, the request as JSON.

A repository is made private unless it was asked for otherwise. One that is there keeps its visibility; where that is
not what was asked for, nothing is sent. Files that the hub has already are not sent again, so a second try goes on.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from glmstudio.errors import StudioError
from glmstudio.jobs.json_child import ask
from glmstudio.models.hub.connection import endpoint, failure, refuse_offline, use_proxies
from glmstudio.models.hub.hubs import TITLES
from glmstudio.system.die_with_parent import tie

HUBS = ("huggingface", "modelscope")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_LOGIN = {"huggingface": "hf auth login", "modelscope": "modelscope login"}
_VARIABLE = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}


@dataclass(frozen=True)
class Upload:
    """What is sent where: all files of `folder` to `repo` ("owner/name") at a hub. `state`: a file in which a client
    remembers what it has sent."""

    hub: str
    repo: str
    folder: str
    state: str
    private: bool = True

    @property
    def address(self) -> str:
        """The page of the repository. Raises StudioError where the address of the hub is none."""
        inner = "models/" if self.hub == "modelscope" else ""
        return f"{endpoint(self.hub)}/{inner}{self.repo}"


def check_repo(repo: str) -> str:
    """A repository's name as both hubs take it. Raises StudioError."""
    repo = repo.strip()
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith((".git", ".", "-")):
        raise StudioError("publish.bad_repo", repo=repo[:120])
    return repo


def send(upload: Upload) -> None:
    """Send the folder; returns once the hub has everything. Raises StudioError."""
    ask(__name__, json.dumps(asdict(upload)), broke="publish.broke")


def main(request: str) -> int:
    """The child."""
    tie()
    upload = Upload(**json.loads(request))
    told: dict[str, Any] = {"done": True}
    try:
        _send(upload)
    except StudioError as problem:
        told = {"problem": problem.to_json()}
    sys.stdout.write("\n" + json.dumps(told) + "\n")
    return 0


def _send(upload: Upload) -> None:
    refuse_offline(upload.hub)
    use_proxies(upload.hub)
    try:
        (_to_hugging_face if upload.hub == "huggingface" else _to_modelscope)(upload)
    except StudioError:
        raise
    except Exception as error:  # a client raises what it likes
        raise _in_words(error, upload) from error


def _to_hugging_face(upload: Upload) -> None:
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi(endpoint=endpoint(upload.hub))
    if not api.token and not _stored_token():
        raise _no_login(upload.hub)
    try:
        found = api.model_info(upload.repo)
        _refuse_other_visibility(upload, private=bool(found.private))
    except RepositoryNotFoundError:
        api.create_repo(upload.repo, private=upload.private)
    files = sorted(each for each in Path(upload.folder).iterdir() if each.is_file())
    api.create_commit(
        upload.repo,
        [CommitOperationAdd(file.name, str(file)) for file in files],
        commit_message=_MESSAGE,
    )


def _to_modelscope(upload: Upload) -> None:
    os.environ.setdefault("MODELSCOPE_LOG_LEVEL", "40")
    from modelscope_hub import HubApi
    from modelscope_hub.constants import Visibility
    from modelscope_hub.errors import NotExistError

    class Api(HubApi):
        """Its upload makes a public repository where there is none; what is made here was asked for."""

        def _create_repo_exist_ok(self, repo_id: str, repo_type: str) -> None:
            pass

    api = Api(endpoint=endpoint(upload.hub), token=os.environ.get(_VARIABLE[upload.hub]) or None)
    if not api.legacy.token:
        raise _no_login(upload.hub)
    try:
        found = api.get_repo(upload.repo, "model")
        _refuse_other_visibility(upload, private=found.visibility in (Visibility.PRIVATE, "private"))
    except NotExistError:
        api.create_repo(upload.repo, "model", visibility="private" if upload.private else "public")
    api.uploader.upload_folder(
        upload.repo,
        "model",
        upload.folder,
        commit_message=_MESSAGE,
        disable_tqdm=True,
        tracker_path=upload.state,
    )


_MESSAGE = "Upload from GLM Studio"


def _stored_token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _no_login(hub: str) -> StudioError:
    return StudioError("publish.no_login", hub=TITLES[hub], line=_LOGIN[hub], variable=_VARIABLE[hub])


def _refuse_other_visibility(upload: Upload, *, private: bool) -> None:
    """Raise StudioError where the repository is there and is what it must not be."""
    if private != upload.private:
        values = {"repo": upload.repo, "hub": TITLES[upload.hub]}
        raise StudioError("publish.is_private", **values) if private else StudioError("publish.is_public", **values)


def _in_words(error: Exception, upload: Upload) -> StudioError:
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    address = endpoint(upload.hub)
    host = urlsplit(address).hostname or upload.hub
    if status in (401, 403, 404):
        return StudioError(
            "publish.refused", hub=TITLES[upload.hub], repo=upload.repo, line=_LOGIN[upload.hub], status=status
        )
    if status == 429 or (isinstance(status, int) and status >= 500):
        return StudioError("models.hub_busy", host=host, status=status)
    known = failure(error, host, address)
    return known or StudioError("publish.broke", reason=f"{type(error).__name__}: {error}"[:300])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
