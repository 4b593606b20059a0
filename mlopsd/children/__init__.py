"""Processes of the daemon's own: how one is started, spoken to, and ended with all that it started."""
