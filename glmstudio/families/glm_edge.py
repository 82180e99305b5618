"""GLM-Edge-1.5B and 4B: GLM-4's turns in a smaller vocabulary, with nothing before the first turn. The published models
were not trained to call tools; what one is taught here is written as GLM-4-0414 writes it."""

from __future__ import annotations

from dataclasses import replace

from glmstudio.families.glm4 import GLM4, MARKS
from glmstudio.families.glm4_0414 import Glm40414

GLM_EDGE = Glm40414(
    **vars(
        replace(
            GLM4, name="glm_edge", title="GLM-Edge", vocabulary=59246, rows=59264,
            special=MARKS, start=(), golden={}, knows_tools=False,
        )
    )
)  # fmt: skip
