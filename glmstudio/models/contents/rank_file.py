"""GLM-4's `tokenizer.model`: a line for each token, its bytes as base64 and its rank, which is its id."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from glmstudio.files import read_bytes

_MOST = 1_000_000  # tokens
_LONGEST = 512  # bytes of one


def read_ranks(file: Path) -> list[bytes]:
    """The tokens in the order of their ranks. Raises OSError where the file is too large or none, ValueError where it
    is no whole rank file: a line that is none, a rank or a token that comes twice, one that is missing, or one of the
    256 bytes."""
    found: dict[int, bytes] = {}
    for number, line in enumerate(read_bytes(file).splitlines(), 1):
        written, space, rank = line.partition(b" ")
        if not space or not rank.isdigit() or len(rank) > 7 or number > _MOST:
            raise ValueError(number)
        try:
            token = base64.b64decode(written, validate=True)
        except binascii.Error as error:
            raise ValueError(number) from error
        if not token or len(token) > _LONGEST or int(rank) in found:
            raise ValueError(number)
        found[int(rank)] = token
    tokens = [found[rank] for rank in range(len(found)) if rank in found]
    if len(tokens) != len(found) or len(set(tokens)) != len(tokens):
        raise ValueError(len(tokens))
    if not {bytes([byte]) for byte in range(256)} <= set(tokens):
        raise ValueError(len(tokens))
    return tokens


def merges_of(tokens: list[bytes]) -> list[tuple[bytes, bytes]]:
    """The pairs of tokens that make a token, the ones of a lower rank first: what is merged first in a text."""
    rank_of = {token: rank for rank, token in enumerate(tokens)}.get
    merges: list[tuple[bytes, bytes]] = []
    for token in tokens:
        pairs = [
            (left, right)
            for cut in range(1, len(token))
            if (right := rank_of(token[cut:])) is not None and (left := rank_of(token[:cut])) is not None
        ]
        merges += [(tokens[left], tokens[right]) for left, right in sorted(pairs)]
    return merges
