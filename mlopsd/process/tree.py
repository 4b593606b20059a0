"""The descendants of a child process, and their end.

- While the process lives, procfs lists them as its descendants: it is a subreaper, so it adopts orphans.
- After its end the daemon adopts them. A mark in their environment, unique to that process, distinguishes
  them from processes that other code has started.
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

MARK = "_MLOPSD_DESCENT"  # not MLOPSD_*, which would configure an mlopsd that is called from such a process
REAPING_SECONDS = 1.0
READING_SECONDS = 10.0  # a thread may start late on a busy host; nothing waits for this
MOST_ROUNDS = 10  # each for the orphans adopted during the last one
HELD_PAUSE = 0.05  # seconds; the kernel releases most processes at once
log = logging.getLogger("mlopsd.children")


def new_mark() -> str:
    """Return a value of `MARK` for one process and its descendants."""
    return f"{os.getpid()}.{secrets.token_hex(8)}"


def end(pid: int, number: signal.Signals) -> list[int]:
    """Send the signal *number* to *pid*, its process group and its descendants; return the descendants.

    Find the descendants first, since their origin is unknown once *pid* has ended. Even if that fails, *pid*
    and its group get the signal.
    """
    family: list[int] = []
    try:
        family.extend(procfs.descendants(pid))
    except Exception:  # a failure to read /proc must not keep the process alive
        log.exception("descendants unknown", extra={"pid": pid})
    finally:
        for member in (*family, pid):
            _send(member, number)
        _send_group(pid, number)
    return family


async def kill_orphans(pid: int, family: Iterable[int], mark: str) -> None:
    """Kill and reap the descendants of *pid*, which has just ended.

    *family* are the known descendants, *mark* is the process's value of `MARK`. The end of a descendant can
    orphan others during a round, so there are several rounds.
    """
    known = set(family)
    seen: set[tuple[int, int]] = set()
    for _ in range(MOST_ROUNDS):
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
    async for marked in _marked(others, mark):
        await _reap(_killed([marked]))


def _killed(pids: Iterable[int]) -> list[int]:
    """Kill *pids* and their descendants; return all of them."""
    killed = dict.fromkeys(pids)
    for orphan in list(killed):
        killed.update(dict.fromkeys(end(orphan, signal.SIGKILL)))
    return list(killed)


async def _reap(pids: list[int]) -> None:
    """Wait for the killed *pids* without blocking; skip one that the kernel holds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + REAPING_SECONDS
    while pids and loop.time() < deadline:
        pids = [pid for pid in pids if _is_running(pid)]
        await asyncio.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:  # reaped meanwhile
        return False


async def _marked(pids: Iterable[int], mark: str) -> AsyncIterator[int]:
    """Yield the *pids* with *mark*; skip one that cannot be read in time."""
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
    """Return whether *pid* has *mark*. Read it in a thread, and not while the kernel holds *pid*."""
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
