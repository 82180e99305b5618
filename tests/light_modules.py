"""The modules that load neither PyTorch nor transformers, by the rooms where they lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY_ROOMS = ("glm", "train", "serve", "demo")
LIGHT = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in (ROOT / "glmstudio").rglob("*.py")
    if file.relative_to(ROOT).parts[1] not in HEAVY_ROOMS and file.stem not in ("__init__", "__main__")
)
