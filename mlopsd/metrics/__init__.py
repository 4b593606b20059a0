"""Everything for Prometheus: the daemon's own numbers, those on the board, and the page of both."""
