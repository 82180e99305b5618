"""Programs that run outside of the studio, beside what was exported: they import nothing of it."""
