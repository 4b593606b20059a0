"""The reaper of adopted orphans, since no other code waits for them."""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable

from mlopsd.process import procfs

PR_SET_CHILD_SUBREAPER = 36
GRACE = 60.0  # seconds in which the starter of a process may wait for it itself


def adopt_orphans() -> None:
    """Make this process, instead of init, the new parent of orphaned descendants."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Reaper:
    """The reaper of zombies older than `GRACE`, except those that asyncio waits for.

    The grace is long enough for a probe that waits for its own process at each check.
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
            with contextlib.suppress(ChildProcessError):  # reaped meanwhile
                os.waitpid(child.pid, os.WNOHANG)
        self._seen = seen


def _zombies() -> list[procfs.ProcessInfo]:
    return [
        child
        for child in procfs.of_main_thread()
        if child.state == "Z" and child.pid not in procfs.WAITED_FOR
    ]
