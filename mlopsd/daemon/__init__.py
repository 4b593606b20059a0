"""The daemon: how it starts, watches, reloads and stops."""
