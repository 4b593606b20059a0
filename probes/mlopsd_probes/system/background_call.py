"""A call that may never return, and its outcome."""

import errno
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """One call in a daemon thread, which keeps no process from exiting.

    Not the default executor: a process joins that at its end, and would wait for a dead mount.

    Attributes:
        answer: its future; done once the call returned or failed. Without a thread to be had (a pid
            limit is reached) that is at once, with a `BlockingIOError`.
    """

    def __init__(self, call: Callable[[], T], name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._call = call
        self._clock = clock
        self._started_at = clock()
        self.answer: Future[T] = Future()
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError as error:
            self.answer.set_exception(BlockingIOError(errno.EAGAIN, str(error)))

    @property
    def age(self) -> float:
        """The seconds since the call began."""
        return self._clock() - self._started_at

    def _run(self) -> None:
        """Make the call, in the thread; its exception is raised where the result is read."""
        try:
            self.answer.set_result(self._call())
        except (OSError, ValueError) as error:
            self.answer.set_exception(error)


def wait_for(calls: Iterable[BackgroundCall[T]], timeout: float) -> None:
    """Wait until all calls have returned, at most *timeout* seconds for all of them together."""
    wait([call.answer for call in calls], timeout)
