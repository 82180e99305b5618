"""GLM-4-9B-0414: GLM-4's tokens; the tools stand in a system turn without who the model is."""

from __future__ import annotations

from dataclasses import replace

from glmstudio.families.glm4 import GLM4, TOOLS, Glm4


class Glm40414(Glm4):
    """How GLM-4-0414 writes and reads."""

    def tools_text(self, tools: tuple[str, ...]) -> str:
        """The heading, and the tools one below the other."""
        return "\n".join((f"{TOOLS}\n", *tools))


GLM4_0414 = Glm40414(**vars(replace(GLM4, name="glm4_0414", title="GLM-4-9B-0414")))
