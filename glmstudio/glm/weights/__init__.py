"""Base weights: the published layout, the native one, and the way between them."""
