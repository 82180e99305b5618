"""Python source as a tree, one at a time.

CPython 3.11 counts how deep it is in a tree in one place for all threads, and breaks with a SystemError where two of
them read source at once.
"""

from __future__ import annotations

import ast
import threading

_TURN = threading.Lock()


def expression(code: str) -> ast.expr:
    """The tree of one expression. Raises what `ast.parse` raises."""
    with _TURN:
        return ast.parse(code, mode="eval").body


def module(source: bytes, name: str) -> ast.Module:
    """The tree of a file called `name`. Raises what `ast.parse` raises."""
    with _TURN:
        return ast.parse(source, filename=name)
