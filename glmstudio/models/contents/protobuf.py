"""The fields of a protocol buffer, as far as a `tokenizer.model` needs them; the project has no such library."""

from __future__ import annotations

from collections.abc import Iterator

_FIXED = {1: 8, 5: 4}  # wire types with so many bytes


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The numbered values of a message: whole numbers, or bytes. Raises ValueError and IndexError where it is cut."""
    at = 0
    while at < len(data):
        key, at = _whole(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _whole(data, at)
            yield key >> 3, value
            continue
        length, at = _whole(data, at) if kind == 2 else (_FIXED.get(kind, -1), at)
        if not 0 <= length <= len(data) - at:
            raise ValueError(kind)
        yield key >> 3, data[at : at + length]
        at += length


def _whole(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits in each byte, and where the next thing is."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError(value)
