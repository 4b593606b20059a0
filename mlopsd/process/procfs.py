"""The children and states of processes from ``/proc``; nothing here can block.

``stat`` and ``children`` take no lock of the process they tell of. ``environ`` and ``cmdline`` do: they hang
with a process that hangs in the kernel (state D), so whoever wants those asks in a thread.
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
        started: in clock ticks since the boot.
        state: one letter, ``Z`` for a zombie, ``D`` for one that the kernel holds.
    """

    pid: int
    started: int
    state: str
    session: int


def children(pid: int) -> Iterator[int]:
    """Return the children of *pid*, of all its threads."""
    for thread in _threads(pid):
        try:
            listed = (thread / "children").read_text("ascii")
        except OSError:  # the thread has ended meanwhile; another has what it started
            continue
        yield from map(int, listed.split())


def descendants(pid: int) -> Iterator[int]:
    """Yield the descendants of *pid*, as far as the kernel still knows their parents.

    It does not recurse: somebody else decides how long the chain is.
    """
    seen, pending = {pid}, [pid]
    while pending:
        for one in children(pending.pop()):
            if one not in seen:  # a pid may become another's meanwhile
                seen.add(one)
                pending.append(one)
                yield one


def of_main_thread() -> Iterator[ProcessInfo]:
    """Return the children of this process's main thread: adopted orphans, and those that it started.

    What another thread has started is that thread's for as long as the thread lives.
    """
    try:
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii")
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return
    for pid in map(int, listed.split()):
        if found := child(pid):
            yield found


def child(pid: int) -> ProcessInfo | None:
    """Return the process *pid*; None if it is gone."""
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
