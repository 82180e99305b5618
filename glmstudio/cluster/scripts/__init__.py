"""What a cluster is given to start a run or a server: scripts and manifests, as text."""
