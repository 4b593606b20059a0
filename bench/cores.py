"""Which core a process runs on: the servers on the first, who asks them on the second."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

SERVERS, CALLERS = 0, 1


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Run what is started in the block on that core alone; the number wraps where there are fewer cores."""
    allowed = os.sched_getaffinity(0)
    cores = sorted(allowed)
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
