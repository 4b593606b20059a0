"""The daemon: start, watches, reloads and stop."""
