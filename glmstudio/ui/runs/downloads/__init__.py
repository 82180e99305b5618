"""What the browser can take away from a run: metrics, log, report, exports."""
