"""The processes below the daemon: who is who, and what is left when it is gone."""

from dataclasses import dataclass
from pathlib import Path

from mlopsd.process import procfs

MARKS = {"host": b"mlopsd_host", "client": b"mlopsd_probes.registry.child", "worker": b"mlopsd.worker.child"}
DRIVER = b"libnvidia-ml"


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be taken for its pid's next holder."""

    pid: int
    started: int

    @property
    def is_there(self) -> bool:
        """Return whether it runs or is stopped. A zombie does not count."""
        found = procfs.child(self.pid)
        return found is not None and found.started == self.started and found.state != "Z"


def process(pid: int) -> Process | None:
    """*pid* as it is now."""
    found = procfs.child(pid)
    return None if found is None else Process(pid, found.started)


def family(pid: int) -> list[Process]:
    """All that descends from *pid*."""
    return [one for one in map(process, procfs.descendants(pid)) if one is not None]


def named(daemon: int, name: str) -> Process | None:
    """Return the child of *daemon* that is its "system", "gpu", "client" or "host"."""
    for child in procfs.children(daemon):
        if _role(child) == name:
            return process(child)
    return None


def _role(pid: int) -> str | None:
    command = _read(pid, "cmdline")
    role = next((role for role, mark in MARKS.items() if mark in command), None)
    if role == "worker":
        return "gpu" if DRIVER in _read(pid, "maps") else "system"
    return role


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""
