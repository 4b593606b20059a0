"""The reaper of adopted orphans, for which nobody else waits."""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable

from mlopsd.process import procfs

PR_SET_CHILD_SUBREAPER = 36
GRACE = 60.0  # seconds for whoever started a process to ask how it ended


def adopt_orphans() -> None:
    """Make this process, and not init, the parent of processes whose parents end from now on."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Reaper:
    """A reaper of zombies older than `GRACE`; it leaves those that asyncio waits for.

    A probe that starts a process and asks for its end at each check has always asked before.
    """

    def __init__(self, grace: float = GRACE, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace = grace
        self._clock = clock
        self._seen: dict[procfs.ProcessInfo, float] = {}

    def reap(self) -> None:
        """Reap old zombies, and remember the others."""
        now = self._clock()
        seen = {child: self._seen.get(child, now) for child in _zombies()}
        due = [child for child, since in seen.items() if now - since >= self._grace]
        for child in due:
            with contextlib.suppress(ChildProcessError):  # somebody else was faster
                os.waitpid(child.pid, os.WNOHANG)
        self._seen = seen


def _zombies() -> list[procfs.ProcessInfo]:
    return [
        child
        for child in procfs.of_main_thread()
        if child.state == "Z" and child.pid not in procfs.WAITED_FOR
    ]
