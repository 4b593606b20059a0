"""Ends what holds up the event loop: a coroutine that blocks leaves no other way to be told."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Blocked(Exception):
    """Raised in whatever is running when the time is up."""


@contextmanager
def alarm(seconds: float) -> Iterator[Callable[[], None]]:
    """Raise `Blocked` in the main thread after *seconds*, and again each as many later, until the end.

    What is given is called whenever the loop turns, and puts it off.
    """

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Blocked(f"it held up the event loop for {seconds:g} s; a coroutine must not block")

    before = signal.signal(signal.SIGALRM, ring)

    def put_off() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    put_off()
    try:
        yield put_off
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
