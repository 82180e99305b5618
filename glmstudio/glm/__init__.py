"""ChatGLM3 as transformers' native GLM, with P-Tuning v2 prefixes."""

from glmstudio.glm.load import load_model

__all__ = ["load_model"]
