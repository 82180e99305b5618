"""One unit for one thing: memory in GiB, as `nvidia-smi` counts it; disks and downloads in GB, as their makers do."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.paths import SHIPPED_PRESETS
from glmstudio.units import memory, memory_bytes, size
from glmstudio.words import LANGUAGES, words

# What decimal gigabytes may be said of; a text without one of these words speaks of memory.
_DECIMAL = re.compile(r"disk|download|磁盘|下载|GB/s|/tmp|\{folder\}", re.IGNORECASE)


@pytest.mark.parametrize(
    ("mib", "text"),
    [(24564, "24.0 GiB"), (16376, "16.0 GiB"), (15360, "15.0 GiB"), (12288, "12.0 GiB"), (81559, "79.6 GiB"), (300, "300 MiB"),
     (1000, "1.0 GiB"), (0, "0 B"), (0.5, "512 KiB"), (131072, "128 GiB")],
)  # fmt: skip
def test_memory_is_told_as_the_driver_counts_it(mib: float, text: str) -> None:
    """What a GPU is sold as is the number on the page."""
    assert memory(mib) == memory_bytes(mib * 2**20) == text


@given(st.integers(0, 2**50))
def test_a_size_is_short_and_keeps_its_value(count: int) -> None:
    for text, base in ((memory_bytes(count), 1024), (size(count), 1000)):
        figure, unit = text.split()
        power = ("B", "K", "M", "G").index(unit[0])
        assert len(figure) <= 5 or unit[0] == "G"
        assert float(figure) * base**power == pytest.approx(count, rel=0.051)
        assert (unit == "B") or (len(unit) == 3) == (base == 1024)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_text_tells_memory_in_decimal_units(lang: str) -> None:
    told = {key: text for key, text in words(lang).items() if re.search(r"\bGB\b", text)}
    assert [key for key, text in told.items() if not _DECIMAL.search(text)] == []
    assert len(told) > 3


def test_no_preset_tells_memory_in_decimal_units() -> None:
    texts = [file.read_text(encoding="utf-8") for file in SHIPPED_PRESETS.rglob("*.toml")]
    assert [text for text in texts if re.search(r"\d GB\b", text)] == []
    assert sum(" GiB" in text for text in texts) >= 5
