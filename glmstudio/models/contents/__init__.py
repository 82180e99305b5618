"""What the files of a model folder hold: tensors by their headers, the vocabulary, and which family it all is."""
