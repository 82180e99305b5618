"""A text that breaks out wherever it is not escaped, and whether it did."""

from __future__ import annotations

import re

HOSTILE = '<img src=x onerror=alert(1)>"\' onmouseover="x {{7*7}} ${alert(1)} `x` </script><script>'


def harmless(html: str) -> bool:
    """Whether no part of HOSTILE is left that a browser or gradio's templates would read."""
    return not re.search(r"<img|<script|</script|\{\{7|\$\{|\" onmouseover|`", html)
