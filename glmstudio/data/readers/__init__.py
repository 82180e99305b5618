"""The files that people bring, as values with line numbers."""
