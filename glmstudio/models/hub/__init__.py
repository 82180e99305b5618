"""From a hub to the disk: what it lists, and the bytes of it."""
