"""Python source as a tree, one at a time, and without looking for the file that it may come from.

CPython 3.11 counts how deep it is in a tree in one place for all threads, and breaks with a SystemError where two of
them read source at once.
"""

from __future__ import annotations

import ast
import os
import threading

_TURN = threading.Lock()


def expression(code: str) -> ast.expr:
    """The tree of one expression. Raises what `ast.parse` raises."""
    with _TURN:
        return ast.parse(code, mode="eval").body


def module(source: bytes) -> ast.Module:
    """The tree of a whole file. Raises what `ast.parse` raises."""
    # To show the line that is wrong, CPython opens the file of this name: by default `<unknown>` in the working folder.
    with _TURN:
        return ast.parse(source, filename=os.devnull)
