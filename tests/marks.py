"""How a table of cases says which of them take longer: `slow(3, "x")` in place of `(3, "x")`."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """A case that runs with `-m slow` only, as the others go the same way through the code."""
    return pytest.param(*values, marks=pytest.mark.slow)
