"""Loads slowly while others are busy, and predicts at full pace.

Niceness is a thread's, and without rights it cannot be taken back. So the thread that loads is niced, and
another one, which was there before, predicts (MLflow's own server loads and predicts in two threads too).
Threads that libraries start while they load (OpenBLAS's) are set free where we may. Where each session is
scheduled as a group (``sched_autogroup``), niceness does not count between sessions, but the group's own
does, and that one can be taken back.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

NICENESS = 5  # a third of the usual weight; at 10 a load on busy cores took ten times as long
AUTOGROUP = Path("/proc/self/autogroup")
GROUP_PATIENCE = 1.0  # seconds; the kernel takes one change of a group in 0.1 s, system-wide


@contextlib.contextmanager
def low_priority() -> Iterator[None]:
    """Give way to others in the calling thread, and in our session where it is scheduled as one."""
    with contextlib.suppress(OSError):  # a daemon that is nicer already; taking that back needs rights
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    _nice_group(NICENESS)
    try:
        yield
    finally:
        _nice_group(0)
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # it takes root to be less nice
                os.setpriority(os.PRIO_PROCESS, int(task.name), 0)


def _nice_group(niceness: int) -> None:
    deadline = time.monotonic() + GROUP_PATIENCE
    while time.monotonic() < deadline:
        try:
            AUTOGROUP.write_text(str(niceness), "ascii")
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:  # this kernel schedules no session as a group
            return
        else:
            return
