"""GLM Studio: diagnose a machine, fine-tune ChatGLM3 on it, and chat with the result while it calls tools."""

__version__ = "0.1.0"
