"""Ends what holds up the event loop: a coroutine that blocks leaves no other way to be told."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Blocked(Exception):
    """Raised in whatever is running when the time is up."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise `Blocked` in the main thread after *seconds*, and again each as many later, until the end."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Blocked(f"it held up the event loop for {seconds:g} s; a coroutine must not block")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
