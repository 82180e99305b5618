"""Weights beside the base: LoRA and P-Tuning v2, on disk and in use."""
