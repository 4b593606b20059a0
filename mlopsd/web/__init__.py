"""The HTTP side of the daemon: the board as JSON, the requests that act, and the access rules."""
