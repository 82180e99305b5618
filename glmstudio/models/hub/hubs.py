"""What a hub says of a model: its files with sizes and sums, and where each is. The hubs' own clients ask; nothing is
downloaded here.

What a hub answers is input from outside: names that are no plain file names, sizes that are none and files that no
ChatGLM3 needs are left out.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from glmstudio.errors import StudioError
from glmstudio.models.catalogue import Entry

_TOKENS = {"modelscope": "MODELSCOPE_API_TOKEN", "huggingface": "HF_TOKEN", "mirror": "GLMSTUDIO_MIRROR_TOKEN"}
TITLES = {"modelscope": "ModelScope", "huggingface": "Hugging Face", "mirror": "hf-mirror.com"}
TIMEOUT_S = 20.0
_PAUSE = 1.0  # seconds before a busy hub is asked once more
CONNECTIONS = 4  # at once to one hub, unless the user says otherwise
MOST_CONNECTIONS = 16

_SAFETENSORS = re.compile(r"model\.safetensors|model-\d{5}-of-(\d{5})\.safetensors")
_BIN = re.compile(r"pytorch_model\.bin|pytorch_model-\d{5}-of-(\d{5})\.bin")
_SMALL = ("config.json", "tokenizer.model")
_WELCOME = ("tokenizer_config.json", "MODEL_LICENSE", "LICENSE")
_LARGEST = 1 << 40
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class RemoteFile:
    """One file at a hub. The sum is a sha256, or (small files at Hugging Face) the sha1 that git gives them."""

    name: str
    size: int
    sha256: str = ""
    git_sha1: str = ""

    @property
    def sum(self) -> str:
        """The sum with its kind."""
        return f"sha256:{self.sha256}" if self.sha256 else f"git:{self.git_sha1}"


@dataclass(frozen=True)
class Listing:
    """The files of one revision of a model that are needed, at one hub."""

    source: str
    repo: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(file.size for file in self.files)

    def url(self, name: str) -> str:
        """Where a file is."""
        if self.source == "modelscope":
            return str(_modelscope().legacy.get_download_url(self.repo, "model", name, self.revision))
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(self.repo, name, revision=self.revision, endpoint=endpoint(self.source)))

    def headers(self) -> dict[str, str]:
        """What a request for a file says besides; a token only where the user set one up for this hub."""
        token = _token(self.source)
        return {"Authorization": f"Bearer {token}"} if token else {}


def endpoint(source: str) -> str:
    """The address of a hub, moved by the variable that its own client obeys."""
    variable, usual = {
        "modelscope": ("MODELSCOPE_ENDPOINT", "https://www.modelscope.cn"),
        "huggingface": ("HF_ENDPOINT", "https://huggingface.co"),
        "mirror": ("GLMSTUDIO_MIRROR", "https://hf-mirror.com"),
    }[source]
    return (os.environ.get(variable) or usual).rstrip("/")


def list_files(model: Entry, source: str, *, layout: str = "") -> Listing:
    """The files of `model` that are needed, as `source` has them now; `layout` ("bin", "safetensors") is preferred,
    "none" leaves the weights out.

    Raises StudioError where the hub does not answer, refuses, does not have the model, or has no whole one.
    """
    repo = model.repo(source)
    if not repo:
        raise StudioError("models.hub_no_model", source=TITLES[source], id=model.title)
    found, revision = _ask(repo, source)
    return Listing(source, repo, revision, needed(found, repo, layout=layout))


def needed(files: Iterable[RemoteFile], repo: str, *, layout: str = "") -> tuple[RemoteFile, ...]:
    """The files that make a model: config, tokenizer, licence, and one set of weights (safetensors, unless only `.bin`
    is whole or `layout` says otherwise). Raises StudioError where there is no whole set."""
    known = {file.name: file for file in files if 0 <= file.size <= _LARGEST and (file.sha256 or file.git_sha1)}
    sets = {
        "safetensors": _weights(known, _SAFETENSORS, "model.safetensors.index.json"),
        "bin": _weights(known, _BIN, "pytorch_model.bin.index.json"),
    }
    weights = sets.get(layout) or sets["safetensors"] or sets["bin"]
    missing = [name for name in _SMALL if name not in known]
    if (not weights and layout != "none") or missing:
        raise StudioError("models.hub_incomplete", id=repo, names=", ".join(missing) or "*.safetensors, *.bin")
    small = [known[name] for name in (*_SMALL, *_WELCOME) if name in known]
    return (*small, *([] if layout == "none" else weights))


def _weights(known: dict[str, RemoteFile], pattern: re.Pattern[str], index: str) -> list[RemoteFile]:
    """One whole set of weights, its index first; empty where a part is missing."""
    for single in ("model.safetensors", "pytorch_model.bin"):
        if pattern.fullmatch(single) and single in known:
            return [known[single]]
    shards = {name: match for name in sorted(known) if (match := pattern.fullmatch(name))}
    counts = {int(match[1]) for match in shards.values()}
    if index not in known or counts != {len(shards)}:
        return []
    return [known[index], *(known[name] for name in shards)]


def _ask(repo: str, source: str, *, again: bool = True) -> tuple[list[RemoteFile], str]:
    """A hub's answer; one that is busy is asked once more (ModelScope's client does so by itself)."""
    try:
        return (_ask_modelscope if source == "modelscope" else _ask_hugging_face)(repo, source)
    except StudioError:
        raise
    except Exception as error:  # the clients raise by a dozen classes of three libraries
        problem = _refusal(error, source, repo)
        if not again or source == "modelscope" or problem.key != "models.hub_busy":
            raise problem from error
    time.sleep(_PAUSE)
    return _ask(repo, source, again=False)


def _ask_modelscope(repo: str, _source: str) -> tuple[list[RemoteFile], str]:
    revision = "master"  # ModelScope names revisions by branch; a file that changes is known by its sum
    listed = _modelscope().list_repo_files(repo, "model", revision=revision, recursive=False)
    return [
        RemoteFile(str(file.path), _whole(file.size), sha256=_hex(file.sha256, 64))
        for file in listed
        if not file.is_dir
    ], revision


def _ask_hugging_face(repo: str, source: str) -> tuple[list[RemoteFile], str]:
    from huggingface_hub import HfApi

    client = HfApi(endpoint=endpoint(source), token=_token(source) or False)
    info = client.model_info(repo, files_metadata=True, timeout=TIMEOUT_S)
    files = []
    for file in info.siblings or ():
        large: Any = file.lfs
        sha256 = _hex(large.sha256, 64) if large else ""
        files.append(RemoteFile(file.rfilename, _whole(file.size), sha256, _hex(file.blob_id, 40)))
    return files, _hex(info.sha, 40) or "main"


def _modelscope() -> Any:
    # Read when the client is imported: it would try four times over a minute where another hub may answer at once.
    os.environ.setdefault("MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS", "2")
    os.environ.setdefault("MODELSCOPE_LOG_LEVEL", "40")
    from modelscope_hub import HubApi

    return HubApi(endpoint=endpoint("modelscope"), token=_token("modelscope") or None)


def _token(source: str) -> str:
    """The key of the user at this hub. The mirror is somebody else's: it never gets the one of Hugging Face."""
    return os.environ.get(_TOKENS[source], "")


def _refusal(error: Exception, source: str, repo: str) -> StudioError:
    """Why a hub gave no list, in words, from whatever its client raised."""
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    host = urlsplit(endpoint(source)).hostname or source
    if status == 404:
        return StudioError("models.hub_no_model", source=TITLES[source], id=repo)
    if status in (401, 403):
        return StudioError("models.hub_refused", host=host, id=repo)
    if status == 429 or (isinstance(status, int) and status >= 500):
        return StudioError("models.hub_busy", host=host, status=status)
    if isinstance(error, (KeyError, TypeError, ValueError, AttributeError)) and not isinstance(error, OSError):
        return StudioError("models.hub_nonsense", host=host)
    return StudioError("models.hub_unreachable", host=host)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _hex(value: Any, length: int) -> str:
    return value if isinstance(value, str) and len(value) == length and _HEX.fullmatch(value) else ""
