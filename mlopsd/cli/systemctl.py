"""The systemd of this host, if it runs one, as systemctl shows it."""

import shutil
import subprocess
from pathlib import Path

SERVICE = "mlopsd.service"
BOOTED = Path("/run/systemd/system")  # sd_booted(3)
PATIENCE = 10.0  # seconds


def has_systemd() -> bool:
    """Return true if this host runs systemd, and has systemctl."""
    return BOOTED.is_dir() and shutil.which("systemctl") is not None


def has_unit() -> bool:
    """Return true if mlopsd is installed as a service."""
    return has_systemd() and read_systemctl("is-enabled", SERVICE) not in ("", "not-found")


def read_systemctl(*arguments: str) -> str:
    """Return what systemctl prints; "" if it fails to start or does not end."""
    command = ["systemctl", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
