"""The page around the four steps, and its process."""
