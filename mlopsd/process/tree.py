"""The descendants of a probe's process; none of them stays behind.

While the process lives they are found as its descendants: it adopts those whose parents end (it is a
subreaper). When it has ended they are the daemon's, which adopts too, and are told by a mark in their
environment, which is that process' own, from processes that others have started.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path

from mlopsd.process import procfs
from mlopsd.threads import in_thread

MARK = "_MLOPSD_DESCENT"  # no MLOPSD_*: who asks mlopsd from such a process has set nothing
REAPING_SECONDS = 1.0
READING_SECONDS = 10.0  # a busy host may take long to run a thread; nobody waits for this
MOST_LOOKS = 10  # each at what was adopted during the one before
HELD_PAUSE = 0.05  # seconds; most that the kernel holds it lets go at once
log = logging.getLogger("mlopsd.children")


def new_mark() -> str:
    """Return a value of `MARK` for one process and its descendants."""
    return f"{os.getpid()}.{secrets.token_hex(8)}"


def end(pid: int, number: signal.Signals) -> list[int]:
    """Send the signal *number* to *pid*, its process group and its descendants; return the descendants.

    They are looked for first, since nobody knows whose they are once *pid* has ended. Whatever comes of
    that, *pid* and its group get the signal.
    """
    family: list[int] = []
    try:
        family.extend(procfs.descendants(pid))
    except Exception:  # a look at /proc keeps nobody alive
        log.exception("descendants unknown", extra={"pid": pid})
    finally:
        for member in (*family, pid):
            _send(member, number)
        _send_group(pid, number)
    return family


async def end_what_is_left(pid: int, family: Iterable[int], mark: str) -> None:
    """Kill and reap the descendants of *pid*, which has just ended.

    *family* are descendants that were known; *mark* is its value of `MARK`. What a descendant has started
    is adopted when that one ends, which may be while we look: so we look again.
    """
    known = set(family)
    seen: set[tuple[int, int]] = set()
    for _ in range(MOST_LOOKS):
        adopted = [child for child in procfs.of_main_thread() if child.pid not in procfs.WAITED_FOR]
        new = [child for child in adopted if (child.pid, child.started) not in seen]
        if not new:
            return
        seen.update((child.pid, child.started) for child in new)
        await _end_adopted(pid, new, known, mark)


async def _end_adopted(pid: int, adopted: Iterable[procfs.ProcessInfo], known: set[int], mark: str) -> None:
    left = [child.pid for child in adopted if child.pid in known or child.session == pid]
    killed = _killed(left)
    _send_group(pid, signal.SIGKILL)
    await _reap(killed)
    others = [child.pid for child in adopted if child.pid not in left and child.state != "Z"]
    async for pid_of_ours in _marked(others, mark):
        await _reap(_killed([pid_of_ours]))


def _killed(pids: Iterable[int]) -> list[int]:
    """Kill *pids* and their descendants; return them all."""
    killed = dict.fromkeys(pids)
    for orphan in list(killed):
        killed.update(dict.fromkeys(end(orphan, signal.SIGKILL)))
    return list(killed)


async def _reap(pids: list[int]) -> None:
    """Wait for the killed *pids* without blocking; leave one that the kernel holds."""
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


async def _marked(pids: Iterable[int], mark: str) -> AsyncIterator[int]:
    """Yield those of *pids* that carry *mark*; give up one that does not answer."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READING_SECONDS
    asked = {loop.create_task(_ask(pid, mark), name=f"mark of {pid}"): pid for pid in pids}
    pending = set(asked)
    while pending and loop.time() < deadline:
        answered, pending = await asyncio.wait(
            pending, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED
        )
        for task in answered:
            if task.exception() is None and task.result():
                yield asked[task]
    for task in pending:
        task.cancel()


async def _ask(pid: int, mark: str) -> bool:
    """Return true if *pid* carries *mark*; read it in a thread, and not while the kernel holds *pid*."""
    while (child := procfs.child(pid)) is not None and child.state == "D":  # noqa: ASYNC110  # the kernel's
        await asyncio.sleep(HELD_PAUSE)
    return await in_thread(f"mark of {pid}", partial(_carries, pid, mark))


def _carries(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended meanwhile
        return False


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _send_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
