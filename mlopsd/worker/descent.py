"""The processes that descend from a probe's process, and how none of them stays behind.

While the process lives they are found as its descendants: it adopts those whose parents end (it is a
subreaper). When it has ended they are the daemon's, which adopts too, and are told by a mark in their
environment from processes that a probe in a thread has started.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

MARK = "MLOPSD_DESCENT"
REAPING_SECONDS = 1.0
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on processes whose parents end are children of this process, and not of init."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end(pid: int, number: signal.Signals) -> list[int]:
    """Send *number* to *pid*, to its process group, and to all that descend from it; the descendants."""
    family = list(_descendants(pid))
    for member in [*family, pid]:
        _send(member, number)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
    return family


async def end_what_is_left(pid: int, family: Iterable[int]) -> None:
    """Kill and reap what *pid*, which has just ended, leaves; *family* are descendants that were known."""
    known = set(family)
    adopted = [child for child in _children(os.getpid()) if child in known or _is_left_over(child, pid)]
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for orphan in adopted:
        adopted += end(orphan, signal.SIGKILL)
    await _reap(adopted)


async def _reap(pids: list[int]) -> None:
    """Wait for *pids*, which were killed, without blocking; one that the kernel holds is left to it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + REAPING_SECONDS
    while pids and loop.time() < deadline:
        pids = [pid for pid in pids if _is_running(pid)]
        await asyncio.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:  # somebody else has reaped it
        return False


def _is_left_over(child: int, pid: int) -> bool:
    """Whether *child* of ours is of the session of *pid*, or carries the mark and is no probe's process."""
    folder = Path(f"/proc/{child}")
    try:
        session = int((folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[3])
        if session == pid:
            return True
        marked = f"{MARK}={os.getpid()}".encode() in (folder / "environ").read_bytes().split(b"\0")
        command = (folder / "cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):  # it has ended meanwhile
        return False
    return marked and not (b"mlopsd.worker.child" in command and session == child)


def _descendants(pid: int) -> Iterator[int]:
    """The children of *pid* and theirs, as far as the kernel still knows whose they are."""
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _children(pid: int) -> Iterator[int]:
    try:
        for thread in sorted(Path(f"/proc/{pid}/task").iterdir()):
            yield from map(int, (thread / "children").read_text("ascii").split())
    except OSError:  # it has ended meanwhile
        return


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
