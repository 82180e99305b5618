"""OpenAI's protocols over HTTP: requests checked, answers written."""
