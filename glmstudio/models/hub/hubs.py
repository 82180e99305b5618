"""What a hub says of a model: its files with sizes and sums, and where each is. The hubs' own clients ask; nothing is
downloaded here.

What a hub answers is input from outside: names that are no plain file names, sizes that are none and files that no
model needs are left out.
"""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlsplit

from glmstudio.errors import StudioError
from glmstudio.models.catalogue import Entry
from glmstudio.models.hub.connection import endpoint, failure, refuse_offline, use_proxies

_TOKENS = {"modelscope": "MODELSCOPE_API_TOKEN", "huggingface": "HF_TOKEN", "mirror": "GLMSTUDIO_MIRROR_TOKEN"}
TITLES = {"modelscope": "ModelScope", "huggingface": "Hugging Face", "mirror": "hf-mirror.com"}
TIMEOUT_S = 20.0
_PAUSE = 1.0  # seconds before a busy hub is asked once more
CONNECTIONS = 4  # at once to one hub, unless the user says otherwise
MOST_CONNECTIONS = 16

_SAFETENSORS = re.compile(r"model\.safetensors|model-\d{5}-of-(\d{5})\.safetensors")
_BIN = re.compile(r"pytorch_model\.bin|pytorch_model-\d{5}-of-(\d{5})\.bin")
_CONFIG = "config.json"
_VOCABULARIES = ("tokenizer.model", "tokenizer.json")  # the first of them that is there
_WELCOME = ("tokenizer_config.json", "chat_template.jinja", "MODEL_LICENSE", "LICENSE")
_SMALL = (_CONFIG, *_VOCABULARIES)
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
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
        return f"{endpoint(self.source)}/{self.repo}/resolve/{quote(self.revision, safe='')}/{quote(name)}"

    def headers(self) -> dict[str, str]:
        """What a request for a file says besides; a token only where the user set one up for this hub."""
        token = _token(self.source)
        return {"Authorization": f"Bearer {token}"} if token else {}


def list_files(model: Entry, source: str, *, layout: str = "") -> Listing:
    """The files of `model` that are needed, as `source` has them now; `layout` ("bin", "safetensors") is preferred,
    "none" leaves the weights out.

    Raises StudioError where the hub does not answer, refuses, does not have the model, or has no whole one.
    """
    repo = model.repo(source)
    if not repo:
        raise StudioError("models.hub_no_model", source=TITLES[source], id=model.title)
    refuse_offline(source)
    use_proxies(source)
    found, revision = _ask(repo, source)
    listing = Listing(source, repo, revision, ())
    known = (file if file.sha256 or file.git_sha1 else _tagged(file, listing) for file in found)
    return replace(listing, files=needed(known, repo, layout=layout))


def needed(files: Iterable[RemoteFile], repo: str, *, layout: str = "") -> tuple[RemoteFile, ...]:
    """The files that make a model: config, tokenizer, licence, and one set of weights (safetensors, unless only `.bin`
    is whole or `layout` says otherwise). Raises StudioError where there is no whole set."""
    known = {file.name: file for file in files if 0 <= file.size <= _LARGEST and (file.sha256 or file.git_sha1)}
    sets = {
        "safetensors": _weights(known, _SAFETENSORS, _INDEXES[0]),
        "bin": _weights(known, _BIN, _INDEXES[1]),
    }
    weights = sets.get(layout) or sets["safetensors"] or sets["bin"]
    vocabulary = next((name for name in _VOCABULARIES if name in known), _VOCABULARIES[0])
    missing = [name for name in (_CONFIG, vocabulary) if name not in known]
    if (not weights and layout != "none") or missing:
        raise StudioError("models.hub_incomplete", id=repo, names=", ".join(missing) or "*.safetensors, *.bin")
    small = [known[name] for name in (_CONFIG, vocabulary, *_WELCOME) if name in known]
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


def _tagged(file: RemoteFile, listing: Listing) -> RemoteFile:
    """The same with the checksum that the hub gives with the file itself, where its list has none that can be read."""
    if file.name not in (*_SMALL, *_WELCOME, *_INDEXES) and not (
        _SAFETENSORS.fullmatch(file.name) or _BIN.fullmatch(file.name)
    ):
        return file
    import requests

    try:
        url, headers = listing.url(file.name), listing.headers()
        with requests.head(url, headers=headers, timeout=TIMEOUT_S, allow_redirects=False) as answer:
            said = [answer.headers.get(name, "") for name in ("X-Linked-ETag", "ETag")]
    except (requests.RequestException, ValueError):
        return file
    sha256 = next(filter(None, (_hex(each, 64) for each in said)), "")
    return replace(file, sha256=sha256, git_sha1="" if sha256 else _hex(said[1], 40))


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
    from huggingface_hub import HfApi, close_session

    close_session()  # one that is left has the proxies of the time when it was made
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
    address = endpoint(source)
    host = urlsplit(address).hostname or source
    if status == 404:
        return StudioError("models.hub_no_model", source=TITLES[source], id=repo)
    if status in (401, 403):
        return StudioError("models.hub_refused", host=host, id=repo)
    if status == 429 or (isinstance(status, int) and status >= 500):
        return StudioError("models.hub_busy", host=host, status=status)
    known = failure(error, host, address)
    if known is None and isinstance(error, (KeyError, TypeError, ValueError, AttributeError)):
        return StudioError("models.hub_nonsense", host=host)
    return known or StudioError("models.hub_unreachable", host=host)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _hex(value: Any, length: int) -> str:
    """A checksum in hexadecimal digits, from any of the ways in which hubs write one; empty where it is none."""
    text = value.strip().removeprefix("W/").strip("\"' \t\r\n") if isinstance(value, str) else ""
    bare = re.sub(r"^(sha(256|1)|git)[:=-]", "", text, flags=re.IGNORECASE)
    if len(bare) == length and _HEX.fullmatch(bare.lower()):
        return bare.lower()
    try:
        data = base64.b64decode(bare, validate=True)
    except ValueError:
        return ""
    return data.hex() if 2 * len(data) == length else ""
