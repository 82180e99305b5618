"""What the doctor changes when a person says so: shown before, checked after, written down."""
