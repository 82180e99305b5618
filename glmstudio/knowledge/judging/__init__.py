"""Whether an answer says what is due."""
