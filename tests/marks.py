"""How a table of cases says which of them take longer: `slow(3, "x")` in place of `(3, "x")`."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """A case that runs with `-m slow` only, as the others go the same way through the code."""
    return pytest.param(*values, marks=pytest.mark.slow)


def rare(*values: Any) -> Any:
    """A case that runs with `-m rare` only: minutes, and the same again in another way."""
    return pytest.param(*values, marks=pytest.mark.rare)


def one_language(words: dict[str, Any], chosen: str) -> list[Any]:
    """The languages of a long test in the browser: the chosen one, and the other as a rare case."""
    return [each if each == chosen else rare(each) for each in words]
