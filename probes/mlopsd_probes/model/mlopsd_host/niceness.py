"""Load at low priority and predict at full priority.

Niceness belongs to a thread, and an unprivileged process cannot lower it again. So the loading thread is
niced, and an earlier thread predicts. MLflow's own server also uses two threads. Threads that libraries start
while loading, such as OpenBLAS's, are reset if permitted.

With ``sched_autogroup`` the kernel schedules each session as a group. Then niceness has no effect between
sessions; only the group's does, and that can be lowered again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

NICENESS = 5  # a third of the usual weight; with 10 a load on busy cores took ten times as long
AUTOGROUP = Path("/proc/self/autogroup")
GROUP_PATIENCE = 1.0  # seconds; the kernel takes one change of a group in 0.1 s, system-wide


@contextlib.contextmanager
def low_priority() -> Iterator[None]:
    """Lower the priority of the calling thread, and of the session's group if there is one."""
    with contextlib.suppress(OSError):  # the daemon is nicer already, and lowering that needs privileges
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    _nice_group(NICENESS)
    try:
        yield
    finally:
        _nice_group(0)
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # only root may lower niceness
                os.setpriority(os.PRIO_PROCESS, int(task.name), 0)


def _nice_group(niceness: int) -> None:
    deadline = time.monotonic() + GROUP_PATIENCE
    while time.monotonic() < deadline:
        try:
            AUTOGROUP.write_text(str(niceness), "ascii")
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:  # this kernel has no session groups
            return
        else:
            return
