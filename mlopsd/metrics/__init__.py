"""The metrics for Prometheus: the daemon's own, those of the board, and the page of both."""
