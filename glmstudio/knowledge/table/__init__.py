"""The table of facts that a person edits."""
