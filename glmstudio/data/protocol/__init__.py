"""ChatGLM3's conversations as text and token ids: one protocol for training, chat and score."""
