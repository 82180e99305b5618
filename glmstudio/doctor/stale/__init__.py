"""Leftover processes: found, listed, ended with proof."""
