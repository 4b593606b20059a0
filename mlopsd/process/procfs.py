"""The children and states of processes from ``/proc``, without blocking.

``stat`` and ``children`` take no lock of the process. ``environ`` and ``cmdline`` do, and hang with a process
that hangs in the kernel (state D). So read those only in a thread.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WAITED_FOR: set[int] = (
    set()
)  # children that asyncio waits for; a process has one set of children, so one here

_STATE, _SESSION, _STARTED = 0, 3, 19  # fields of stat, counted after the command's name; proc(5)


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A child of this process. Its process ID may be reused, but not together with its start time.

    Attributes:
        pid: The process ID.
        started: The start time, in clock ticks since the boot.
        state: One letter: ``Z`` for a zombie, ``D`` for a process that the kernel holds.
        session: The session ID.
    """

    pid: int
    started: int
    state: str
    session: int


def children(pid: int) -> Iterator[int]:
    """Yield the children of *pid*, of all its threads."""
    for thread in _threads(pid):
        try:
            listed = (thread / "children").read_text("ascii")
        except OSError:  # the thread has ended meanwhile; another one has its children now
            continue
        yield from map(int, listed.split())


def descendants(pid: int) -> Iterator[int]:
    """Yield the descendants of *pid*, as far as the kernel still knows their parents.

    Does not recurse, since other programs decide the depth.
    """
    seen, pending = {pid}, [pid]
    while pending:
        for found in children(pending.pop()):
            if found not in seen:  # another process may get a pid meanwhile
                seen.add(found)
                pending.append(found)
                yield found


def of_main_thread() -> Iterator[ProcessInfo]:
    """Yield the children of this process's main thread: adopted orphans, and those that it started.

    A child of another thread belongs to that thread as long as the thread lives.
    """
    try:
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii")
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return
    for pid in map(int, listed.split()):
        if found := child(pid):
            yield found


def child(pid: int) -> ProcessInfo | None:
    """Return the process *pid*, or None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:  # it is gone meanwhile
        return None
    return ProcessInfo(pid, int(fields[_STARTED]), fields[_STATE], int(fields[_SESSION]))


def _threads(pid: int) -> list[Path]:
    try:
        return sorted(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it has ended meanwhile
        return []
