"""A run is a directory: what stands in it, and what is read from it."""
