"""The event loop of the daemon: it always ends, and logs exceptions that nobody handled."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mlopsd.exceptions import safe_message
from mlopsd.log import Drain
from mlopsd.log_limit import LogLimiter, fingerprint

SCARCE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
)  # errors of accept(2) when the host lacks something
LEAVING_SECONDS = 0.3  # for cancelled tasks, before the loop ends
log = logging.getLogger("mlopsd.daemon")
Result = TypeVar("Result")


def run(whole: Coroutine[Any, Any, None], drain: Drain) -> None:
    """Run *whole* to its end. Unlike ``asyncio.run``, do not wait for tasks that ignore cancellation.

    If such a task is left, end the process here: with status 1 and the traceback if *whole* has raised.
    """
    loop = asyncio.new_event_loop()
    failed = True
    try:
        _run_to_its_end(loop, whole)
        failed = False
    finally:
        if stuck := loop.run_until_complete(_leave()):
            log.warning("tasks left running", extra={"tasks": stuck}, exc_info=failed)
            drain.end()
            os._exit(failed)
        loop.close()


def run_until_done(whole: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of *whole*. Do not wait for tasks that ignore their cancellation."""
    loop = asyncio.new_event_loop()
    try:
        return _run_to_its_end(loop, whole)
    finally:
        if not loop.run_until_complete(_leave()):
            loop.close()


def _run_to_its_end(loop: asyncio.AbstractEventLoop, whole: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of *whole*. Go on if a probe stops the loop: that would end every other probe."""
    task = loop.create_task(whole)
    task.add_done_callback(_stop)
    limiter = LogLimiter()
    try:
        loop.run_forever()
        while not task.done():
            if limiter.allow("") is not None:
                reason = "a probe called stop() of the event loop; remove that call"
                log.error("event loop stopped", extra={"reason": reason})
            loop.run_forever()
    finally:
        task.remove_done_callback(_stop)  # after Ctrl-C it ends while `_leave` runs the loop
    return task.result()


def _stop(task: asyncio.Task[Any]) -> None:
    task.get_loop().stop()


async def _leave() -> list[str]:
    """Cancel every remaining task, and return the names of those that keep running."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LEAVING_SECONDS)
    return sorted(task.get_name() for task in left if not task.done())


class Unawaited:
    """The exceptions that no code handled: each is a bug of mlopsd, which *count* counts."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count
        self._limiter = LogLimiter()

    def handle(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Count and log the exception in *context*, as a loop's exception handler.

        An ``accept`` that fails because the host lacks descriptors or memory is no bug: asyncio retries.
        """
        self._count()
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in SCARCE and "socket" in context:
            self._cannot_accept(error)
            return
        reason = context.get("message", "")
        key = (fingerprint(reason), type(error), fingerprint(safe_message(error)) if error else "")
        if self._limiter.allow(key) is not None:
            log.error("unhandled exception", extra={"reason": reason}, exc_info=error)

    def _cannot_accept(self, error: OSError) -> None:
        """Log at most one line per hour: asyncio retries every second."""
        if self._limiter.allow(error.errno) is not None:
            fix = "raise LimitNOFILE=, or stop the process that holds so many descriptors"
            log.error("cannot accept connections", extra={"reason": f"{error.strerror}; {fix}"})
