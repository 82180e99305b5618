"""The operating system: processes, locks, GPUs, sockets, the sandbox. Nothing of the studio stands above it."""
