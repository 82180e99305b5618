"""The families that run here. A new one is a file of its own, and a line of this table."""

from __future__ import annotations

from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.family import Family
from glmstudio.families.glm4 import GLM4
from glmstudio.families.glm4_0414 import GLM4_0414
from glmstudio.families.glm_edge import GLM_EDGE
from glmstudio.families.glm_z1 import GLM_Z1

FAMILIES: dict[str, Family] = {each.name: each for each in (CHATGLM3, GLM4, GLM4_0414, GLM_Z1, GLM_EDGE)}
