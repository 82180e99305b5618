"""What a tool says when it cannot answer."""

from __future__ import annotations


class ToolError(ValueError):
    """A tool could not answer; the message goes to the model as the observation."""
