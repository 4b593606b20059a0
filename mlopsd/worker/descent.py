"""The processes that descend from one: what a probe's process leaves behind when it is ended."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path


def descendants(pid: int) -> Iterator[int]:
    """The children of *pid* and theirs, as far as the kernel still knows whose they are."""
    for child in _children(pid):
        yield child
        yield from descendants(child)


def end(pid: int, number: signal.Signals) -> None:
    """Send *number* to *pid*, to its process group, and to all that descend from it."""
    family = [pid, *descendants(pid)]
    for member in family:
        _send(member, number)
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _children(pid: int) -> Iterator[int]:
    try:
        for thread in sorted(Path(f"/proc/{pid}/task").iterdir()):
            yield from map(int, (thread / "children").read_text("ascii").split())
    except OSError:  # it has ended meanwhile
        return


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
