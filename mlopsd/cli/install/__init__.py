"""``mlopsd install``: set mlopsd up as a systemd service."""
