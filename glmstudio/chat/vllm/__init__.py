"""vLLM, which the user installed: where it is, what it can be given, and the command that starts it."""
