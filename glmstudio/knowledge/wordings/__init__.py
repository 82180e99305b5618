"""Other wordings of a question, for approval."""
