"""What `bench` measures on this machine."""
