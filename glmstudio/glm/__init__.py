"""ChatGLM3 as transformers' native GLM, with P-Tuning v2 prefixes."""

import logging

from glmstudio.glm.load import load_model

# PEFT loads it, too, and at each start it would regret a kernel that nobody asked for.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__all__ = ["load_model"]
