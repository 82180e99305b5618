"""Exports: what is asked for, who writes it, and the folder that appears whole or not at all."""
