"""Adopts orphans, and waits for those that have ended, since nobody else does."""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable

from mlopsd.process import procfs

PR_SET_CHILD_SUBREAPER = 36
GRACE = 60.0  # seconds for whoever started a process to ask how it ended


def adopt_orphans() -> None:
    """From now on processes whose parents end are children of this process, and not of init."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Reaper:
    """Reaps what was a zombie `GRACE` ago already, and never what asyncio waits for.

    A probe that starts a process and asks for its end at each check has always asked before.
    """

    def __init__(self, grace: float = GRACE, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace = grace
        self._clock = clock
        self._seen: dict[procfs.ProcessInfo, float] = {}

    def reap(self) -> None:
        """Reap what has been a zombie for long enough, and remember the others."""
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
