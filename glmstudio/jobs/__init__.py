"""Work in child processes: a job in a folder, one question to a child, and who is at work in this home."""
