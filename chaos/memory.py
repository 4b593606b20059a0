"""Takes the memory away from one process: by a control group where that can be had, else by a limit."""

import contextlib
import os
import resource
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup/memory")  # version 1
LIMIT = "memory.limit_in_bytes"


class Squeeze:
    """The process *pid* gets *size* bytes more than it has, and no more, until the end."""

    def __init__(self, pid: int, size: int) -> None:
        self._group = _below_ours(f"mlopsd-chaos-{os.getpid()}-{pid}")
        self._limited: tuple[int, tuple[int, int]] | None = None
        if self._group is None:
            self._limited = pid, resource.prlimit(pid, resource.RLIMIT_AS)
            resource.prlimit(pid, resource.RLIMIT_AS, (size, self._limited[1][1]))
            return
        self._group.mkdir(exist_ok=True)
        (self._group / LIMIT).write_text(str(size), "ascii")
        (self._group / "cgroup.procs").write_text(str(pid), "ascii")

    @property
    def how(self) -> str:
        """By what."""
        return "a control group" if self._group is not None else "RLIMIT_AS"

    async def end(self) -> None:
        """Take the group away, once it is empty, or the limit."""
        if self._limited is not None:
            pid, limits = self._limited
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_AS, limits)
        if self._group is not None:
            with contextlib.suppress(OSError):
                self._group.rmdir()


def _below_ours(name: str) -> Path | None:
    """None where there is none of version 1 that we may divide, as in most containers."""
    for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
        _, controllers, place = line.split(":", 2)
        ours = MOUNT / place.lstrip("/")
        if controllers == "memory" and os.access(ours / LIMIT, os.R_OK) and os.access(ours, os.W_OK):
            return ours / name
    return None
