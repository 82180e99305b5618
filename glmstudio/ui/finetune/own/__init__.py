"""My data on the Fine-tune step: upload, list, columns and rows."""
