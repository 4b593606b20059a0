"""The HTTP API: its answers and their description."""
