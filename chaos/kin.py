"""The processes below the daemon: who is who, what each holds, and what is left when it is gone."""

import os
from dataclasses import dataclass
from pathlib import Path

from mlopsd.children import kin

MARKS = {"host": b"mlopsd_host", "client": b"mlopsd_probes.model.client", "worker": b"mlopsd.worker.child"}
DRIVER = b"libnvidia-ml"


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be taken for its pid's next holder."""

    pid: int
    started: int

    @property
    def is_there(self) -> bool:
        """Whether it runs, or is stopped; a zombie does not count."""
        found = kin.child(self.pid)
        return found is not None and found.started == self.started and found.state != "Z"


def process(pid: int) -> Process | None:
    """*pid* as it is now."""
    found = kin.child(pid)
    return None if found is None else Process(pid, found.started)


def family(pid: int) -> list[Process]:
    """All that descends from *pid*."""
    found = []
    for child in kin.children(pid):
        if (one := process(child)) is not None:
            found += [one, *family(child)]
    return found


def named(daemon: int, name: str) -> Process | None:
    """The child of *daemon* that is its "system", "gpu", "client" or "host"."""
    for child in kin.children(daemon):
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


@dataclass(frozen=True, slots=True)
class Census:
    """What a daemon holds: open descriptors, threads, descendants, and resident bytes of its own."""

    descriptors: int
    threads: int
    children: int
    rss: int

    def __str__(self) -> str:
        size = self.rss / 2**20
        return f"{self.descriptors} fds, {self.threads} threads, {self.children} children, {size:.1f} MiB"


def census(pid: int) -> Census:
    """What *pid* holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return Census(
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208
        threads=len(os.listdir(f"/proc/{pid}/task")),  # noqa: PTH208
        children=len(family(pid)),
        rss=pages * os.sysconf("SC_PAGE_SIZE"),
    )
