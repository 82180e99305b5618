"""What the tests of downloads share: a hub with one model, and what must hold of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from glmstudio.models.catalogue import Entry
from glmstudio.models.hub.download import DownloadProgress, Options, download
from glmstudio.models.hub.transfer import Patience

REPO = "ZhipuAI/chatglm3-6b"
MODEL = Entry("chatglm3-6b", "ChatGLM3-6B", REPO, REPO)
PIECE = 16 << 10  # bytes
QUICK = Patience(total_s=1.5, stall_s=0.4)
NEEDED = (
    "config.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "MODEL_LICENSE",
    "pytorch_model.bin.index.json",
    "pytorch_model-00001-of-00002.bin",
    "pytorch_model-00002-of-00002.bin",
)


def fetch(
    folder: Path,
    source: str = "modelscope",
    *,
    connections: int = 4,
    tell: Callable[[DownloadProgress], None] = lambda _: None,
    **more: object,
) -> None:
    """Download the model of the tests, impatiently and in small pieces."""
    given = {"sources": (source,), "connections": connections, "piece": PIECE, "patience": QUICK, **more}
    download(MODEL, folder, Options(**given), tell)


def weights(folder: Path) -> dict[str, bytes]:
    """The files of a folder that the model needs, with their bytes."""
    return {name: (folder / name).read_bytes() for name in NEEDED if (folder / name).is_file()}
