"""Evidence of what this process may reach, found without a call of the driver."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONTROL = "dev/nvidiactl"  # every process that uses the driver opens it
MARKERS = (".dockerenv", "run/.containerenv", "run/systemd/container")
FIRST_ENVIRONMENT = "proc/1/environ"
KUBERNETES = "KUBERNETES_SERVICE_HOST"
DENIED = frozenset({errno.EPERM, errno.EACCES})  # EPERM comes from the device cgroup


@dataclass(frozen=True, slots=True)
class Access:
    """The access of this process to the driver.

    Attributes:
        in_container: it runs in a container, which may be given some devices of its host.
        to_driver: it may open the driver's control device; None where that could not be found out.
    """

    in_container: bool
    to_driver: bool | None

    @property
    def is_granted(self) -> bool:
        """True if nothing stands between this process and the driver."""
        return self.to_driver is True and not self.in_container


def access(root: Path) -> Access:
    """Return what is so now below *root*, which is ``/`` but in tests."""
    return Access(is_container(root), may_open(root / CONTROL))


def is_container(root: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Return true if Docker, Podman, systemd-nspawn, LXC or Kubernetes left its mark."""
    return (
        KUBERNETES in environment
        or any((root / marker).exists() for marker in MARKERS)
        or any(word.startswith(b"container=") for word in _first_environment(root))
    )


def may_open(device: Path) -> bool | None:
    """Return whether *device* opens for reading and writing; None if it fails for another reason."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return False if error.errno in DENIED else None
    return True


def _first_environment(root: Path) -> list[bytes]:
    """Return the environment of process 1, which only root may read."""
    try:
        return (root / FIRST_ENVIRONMENT).read_bytes().split(b"\0")
    except OSError:
        return []
