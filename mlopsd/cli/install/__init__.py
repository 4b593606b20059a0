"""``mlopsd install``: the systemd service of this host."""
