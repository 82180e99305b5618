"""Before a run: does it fit, how long does it take, which data and devices."""
