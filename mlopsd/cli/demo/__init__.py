"""``mlopsd demo``: a registry, a small model and the daemon that serves it."""
