"""The exponential wait between retries."""

import math
import random
import time
from collections.abc import Callable

FIRST, LONGEST = 1.0, 300.0  # seconds
JITTER = 0.2  # of the wait, so that hosts with the same failure do not retry in step
CALM = 10  # a success that lasts this many times the last wait resets the back-off


class ExponentialBackoff:
    """Waits that double from *first* to *longest* seconds with each failure.

    A success that lasts `CALM` times the last wait resets the wait. So a process that dies every five minutes
    restarts at once or after half a minute, never after five minutes.

    Attributes:
        failures: The number of consecutive failures.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, longest: float = LONGEST, first: float = FIRST
    ) -> None:
        self.failures = 0
        self._clock = clock
        self._first = first
        self._longest = longest
        self._wait = 0.0
        self._next = -math.inf  # on the steady clock
        self._good_since: float | None = None

    def left(self) -> float:
        """Return the remaining seconds of the wait."""
        return max(0.0, self._next - self._clock())

    def failed(self, at_least: float = 0.0) -> None:
        """Record a failure: double the wait, and wait *at_least* so many seconds."""
        self.failures += 1
        self._wait = min(max(self._first, 2 * self._wait), self._longest)
        wait = self._wait * random.uniform(1 - JITTER, 1 + JITTER)
        self._next = self._clock() + max(wait, at_least)
        self._good_since = None

    def succeeded(self) -> None:
        """Record a success, which may not last."""
        self.failures = 0
        self._good_since = self._clock()

    def forget(self) -> None:
        """Reset to the shortest wait."""
        self.failures = 0
        self._wait = 0.0
        self._next = -math.inf
        self._good_since = None

    def lost(self) -> None:
        """Record the end of a success: retry at once if it lasted, or else wait as after a failure."""
        good_since = self._good_since
        lasted = good_since is not None and self._clock() - good_since >= CALM * self._wait
        if lasted or self._wait == 0:
            self._wait, self._next = self._first / 2, self._clock()
            self._good_since = None
        else:
            self.failed()
