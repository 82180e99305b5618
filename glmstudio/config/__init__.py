"""What a run is told: settings, presets, devices, optional packages."""
