"""What a check and a fix are, and how they are run and reported."""
