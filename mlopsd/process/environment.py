"""The environment that a child process inherits. This module does not import asyncio."""

import os

KEPT_FROM_CHILDREN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY")
PREFIXES_KEPT_FROM_CHILDREN = ("LISTEN_", "MLOPSD_")


def harmless_environment() -> dict[str, str]:
    """Return the daemon's environment for a child, without its secrets and the variables of systemd."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in KEPT_FROM_CHILDREN and not name.startswith(PREFIXES_KEPT_FROM_CHILDREN)
    }
