"""The Fine-tune step: data, settings, plan, Start."""
