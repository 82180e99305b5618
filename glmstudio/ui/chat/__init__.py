"""The Chat step."""
