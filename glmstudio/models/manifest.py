"""What a download or a conversion wrote down beside the files: where each came from and what its bytes sum up to.

`glmstudio.json` in the model's folder: {"source", "repo", "revision", "files": {name: {"size", "sha256", "pieces"?}}}.
It travels with the folder. It proves that the bytes are those that arrived, not who made them: whoever can change the
weights can change it, too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from glmstudio.files import read_json, read_text, write_json

NAME = "glmstudio.json"
_HUB_NOTES = Path(".cache/huggingface/download")

_SHA256 = re.compile(r"[0-9a-f]{64}")


def read(folder: Path) -> dict[str, Any]:
    """The manifest; empty where there is none, or where it is none."""
    found = read_json(folder / NAME, {})
    return found if isinstance(found, dict) else {}


def files(folder: Path) -> dict[str, dict[str, Any]]:
    """What is known of each file: those entries that are sound, by plain names."""
    listed = read(folder).get("files")
    known = listed.items() if isinstance(listed, dict) else ()
    return {name: about for name, about in known if Path(name).name == name and _is_sound(about)}


def converted(folder: Path) -> list[str]:
    """The weights that were converted here, by plain names; their index among them."""
    listed = read(folder).get("converted")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    return [name for name in names if Path(name).name == name]


def origin(folder: Path) -> tuple[str, str]:
    """The hub and the id that the files came from; empty where nobody wrote it down."""
    about = read(folder)
    return str(about.get("source", "")), str(about.get("repo", ""))


def known_sums(folder: Path) -> dict[str, str]:
    """The sha256 sums of the folder's files, as far as somebody wrote them down: our own download or conversion, or
    Hugging Face's client, in notes beside the files or in the names that its cache links to."""
    sums = {name: str(about["sha256"]) for name, about in files(folder).items()}
    for note in sorted((folder / _HUB_NOTES).glob("*.metadata")):
        # Three lines: the commit, the etag (the sha256 of a large file), the time.
        try:
            lines = read_text(note, errors="replace").splitlines()
        except OSError:
            continue
        found = lines[1].strip('" ').lower() if len(lines) > 1 else ""
        if _SHA256.fullmatch(found):
            sums.setdefault(note.name.removesuffix(".metadata"), found)
    for pattern in ("*.bin", "*.safetensors", "tokenizer.model", "tokenizer.json"):
        for link in filter(Path.is_symlink, folder.glob(pattern)):
            target = link.readlink().name
            if _SHA256.fullmatch(target):
                sums.setdefault(link.name, target)
    return sums


def note(folder: Path, **head: Any) -> None:
    """Write down what holds for all files."""
    write_json(folder / NAME, read(folder) | head)


def add(folder: Path, name: str, about: dict[str, Any]) -> None:
    """Write down one more file."""
    note(folder, files=files(folder) | {name: about})


def drop(folder: Path, names: list[str]) -> None:
    """Forget files that are gone."""
    note(folder, files={name: about for name, about in files(folder).items() if name not in names})


def _is_sound(about: Any) -> bool:
    sha256, size = (about.get("sha256"), about.get("size")) if isinstance(about, dict) else (None, None)
    counted = size is None or (type(size) is int and 0 <= size < 1 << 63)
    return counted and isinstance(sha256, str) and bool(_SHA256.fullmatch(sha256))
