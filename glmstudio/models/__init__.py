"""Models on disk: which there are, and whether they are whole."""

from glmstudio.models.library import Model, add_folder, find_model, list_models, ready_model, remove_folder

__all__ = ["Model", "add_folder", "find_model", "list_models", "ready_model", "remove_folder"]
