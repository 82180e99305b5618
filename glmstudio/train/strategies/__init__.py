"""How the processes of a run share the model: DDP, FSDP, ZeRO."""
