"""How long to wait before what just failed is tried again."""

import math
import random
import time
from collections.abc import Callable

FIRST, LONGEST = 1.0, 300.0  # seconds
FIRST_LATER = 30.0  # seconds; for what costs a transfer or a load each time
LONGEST_SOON = 60.0  # seconds; for what a version is not at fault for
JITTER = 0.2  # of the wait, so that hosts that lost the same thing do not come back in step
CALM = 10  # times the last wait, without a loss, and the past is forgotten


class Backoff:
    """Waits that double from *first* to *longest* while things go wrong; the first retry is at once.

    What went well for `CALM` times as long as it was waited for counts as well: a host that dies every five
    minutes is back at once, or after half a minute, and never after five.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        longest: float = LONGEST,
        first: float = FIRST,
    ) -> None:
        self._clock = clock
        self._first = first
        self._longest = longest
        self._wait = 0.0
        self._next = -math.inf  # on the steady clock
        self._good_since: float | None = None

    def may_try(self) -> bool:
        """Whether the wait is over."""
        return self._clock() >= self._next

    def left(self) -> float:
        """Seconds that are left of the wait."""
        return max(0.0, self._next - self._clock())

    def failed(self) -> None:
        """It went wrong: wait, twice as long as before."""
        self._wait = min(max(self._first, 2 * self._wait), self._longest)
        self._next = self._clock() + self._wait * random.uniform(1 - JITTER, 1 + JITTER)
        self._good_since = None

    def succeeded(self) -> None:
        """It went well; whether it lasts is to be seen."""
        self._good_since = self._clock()

    def forget(self) -> None:
        """Begin again with the shortest wait."""
        self._wait = self._next = 0.0
        self._good_since = None

    def lost(self) -> None:
        """What went well is gone: at once again if it lasted, else as after a failure."""
        good_since = self._good_since
        lasted = good_since is not None and self._clock() - good_since >= CALM * self._wait
        if lasted or self._wait == 0:
            self._wait, self._next = self._first / 2, self._clock()
            self._good_since = None
        else:
            self.failed()
