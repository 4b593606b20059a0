"""The signs of a container, in which sysfs shows the devices of the whole host."""

import os
from collections.abc import Mapping
from pathlib import Path

KUBERNETES = "KUBERNETES_SERVICE_HOST"
MARKERS = (".dockerenv", "run/.containerenv", "run/systemd/container")
FIRST_ENVIRONMENT = "proc/1/environ"


def is_container(root: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Return true if there is a sign of Docker, Podman, systemd-nspawn, LXC or Kubernetes."""
    return (
        KUBERNETES in environment
        or any((root / marker).exists() for marker in MARKERS)
        or any(word.startswith(b"container=") for word in _first_environment(root))
    )


def _first_environment(root: Path) -> list[bytes]:
    """Return the environment of process 1, which only root may read."""
    try:
        return (root / FIRST_ENVIRONMENT).read_bytes().split(b"\0")
    except OSError:
        return []
