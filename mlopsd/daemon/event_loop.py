"""The event loop of the daemon: it ends for certain, and what nobody waited for is told."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

from mlopsd.log import Drain
from mlopsd.log_limit import LogLimiter

SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})  # what accept(2) may want
LEAVING_SECONDS = 0.3  # for tasks that are asked to end when the loop is about to
log = logging.getLogger("mlopsd.daemon")


def run(whole: Coroutine[Any, Any, None], drain: Drain) -> None:
    """Like ``asyncio.run``, which would wait for ever for a coroutine that will not end.

    Where there is one the process ends here, with status 1 and its traceback if *whole* has raised.
    """
    loop = asyncio.new_event_loop()
    failed = True
    try:
        loop.run_until_complete(whole)
        failed = False
    finally:
        if stuck := loop.run_until_complete(_leave()):
            log.warning("left behind", extra={"tasks": stuck}, exc_info=failed)
            drain.end()
            os._exit(failed)
        loop.close()


async def _leave() -> list[str]:
    """Cancel every task that is left; the names of those that go on all the same."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LEAVING_SECONDS)
    return sorted(task.get_name() for task in left if not task.done())


class Unawaited:
    """Exceptions that nobody waited for: each is a fault of ours, which *count* counts."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count
        self._repeats = LogLimiter()

    def tell(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Count and log what *context* has, as a loop's exception handler.

        What a host that has run out of something refuses to a new connection is no fault: asyncio tries
        again.
        """
        self._count()
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in SCARCE and "socket" in context:
            self._cannot_accept(error)
            return
        extra = {"reason": context.get("message", "")}
        log.error("exception that nobody waited for", extra=extra, exc_info=error)

    def _cannot_accept(self, error: OSError) -> None:
        """One line an hour: it is tried every second."""
        if self._repeats.worth_saying(error.errno) is not None:
            cure = "raise LimitNOFILE=, or end what holds so many descriptors"
            log.error("cannot accept connections", extra={"reason": f"{error.strerror}; {cure}"})
