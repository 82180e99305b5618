"""Who is let in: this machine's page, its owner, and whoever has the key."""
