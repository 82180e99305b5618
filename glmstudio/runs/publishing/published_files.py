"""Which files of an export are published: those of the result by name, and none that names a folder of this machine."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import read_text, write_text
from glmstudio.models.exports.export_request import GGUF, GGUF_LORA, NATIVE, PEFT, TOOL_PARSER
from glmstudio.paths import ROOT, paths

_CARD = r"README\.md"
_OF_FORM = {
    NATIVE: (
        _CARD, r"(generation_)?config\.json", r"tokenizer(_config)?\.json", r"tokenizer\.model",
        r"chat_template\.jinja", r"model(-\d{5}-of-\d{5})?\.safetensors", r"model\.safetensors\.index\.json",
        re.escape(TOOL_PARSER),
    ),
    GGUF: (_CARD, r"[^/]+\.gguf", r"Modelfile", r"chat_template_tools\.jinja"),
    GGUF_LORA: (_CARD, r"[^/]+\.gguf"),
    PEFT: (_CARD, r"adapter_config\.json", r"adapter_model\.safetensors"),
}  # fmt: skip
FORMS = tuple(_OF_FORM)
_VOCABULARY = "tokenizer.json"  # any text may be a piece of it
_LARGEST_TEXT = 1 << 20


def lay_out(export: Path, form: str, folder: Path, base: str, base_name: str) -> None:
    """Lay the files that are published into `folder`, without copying weights; the place of the base on this machine
    (`base`, "" for none) becomes its name.

    Raises StudioError where a text still names a folder of this machine.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in sorted(export.iterdir()):
        if not file.is_file() or file.is_symlink() or not _belongs(form, file.name):
            continue
        if _is_text(file):
            text = read_text(file)
            write_text(folder / file.name, text.replace(base, base_name) if base else text)
            (folder / file.name).chmod(0o644)
            _refuse_paths(folder / file.name)
        else:
            _link(file, folder / file.name)


def _belongs(form: str, name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in _OF_FORM[form])


def _is_text(file: Path) -> bool:
    known = file.suffix in (".md", ".json", ".jinja", ".py") or file.name == "Modelfile"
    return known and file.name != _VOCABULARY and file.stat().st_size <= _LARGEST_TEXT


def _refuse_paths(file: Path) -> None:
    text = read_text(file)
    for folder in (paths().home, ROOT, Path.home()):
        if len(folder.parts) > 1 and re.search(re.escape(str(folder)) + r"(?![\w.-])", text):
            raise StudioError("publish.path_inside", file=file.name, folder=str(folder))


def _link(file: Path, target: Path) -> None:
    """The same file under a second name; a copy where the file system knows no such thing."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
