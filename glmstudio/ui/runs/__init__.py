"""The runs on the page."""
