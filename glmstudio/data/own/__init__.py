"""A person's own datasets in the workspace: which there are, what their columns mean, and their rows."""
