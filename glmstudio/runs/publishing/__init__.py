"""What a run learned, at a hub: exported, checked, and sent by the hub's own client."""
