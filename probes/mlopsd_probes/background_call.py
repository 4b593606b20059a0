"""A call that may never return, such as one of a dead mount or of a hung driver, in a thread of its own."""

import errno
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """One call in a daemon thread, which does not delay the end of the process.

    A process joins its default executor at its end, and would wait there for a dead mount.

    Attributes:
        answer: its future, done once the call has returned or failed. If no thread can be started, as at a
            pid limit, it fails at once with a `BlockingIOError`.
        thread: the thread that makes the call.
    """

    def __init__(self, call: Callable[[], T], name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._call = call
        self._clock = clock
        self._started_at = clock()
        self.answer: Future[T] = Future()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self.thread.start()
        except RuntimeError as error:
            self.answer.set_exception(BlockingIOError(errno.EAGAIN, str(error)))

    @property
    def age(self) -> float:
        """The seconds since the call began."""
        return self._clock() - self._started_at

    def _run(self) -> None:
        """Make the call in the thread; its exception is raised where the result is read."""
        try:
            self.answer.set_result(self._call())
        except Exception as error:  # noqa: BLE001  # it is raised where the result is read
            self.answer.set_exception(error)


def wait_for(calls: Iterable[BackgroundCall[T]], timeout: float) -> None:
    """Wait until all calls have returned, at most *timeout* seconds in total."""
    wait([call.answer for call in calls], timeout)
