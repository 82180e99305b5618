"""The Doctor step."""
