"""Facts that a model is taught, and whether it has learned them."""
