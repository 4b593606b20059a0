"""The growth of counters within a window of time."""

import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)
STEPS = 60  # points that are kept of a counter in its window


class Growth(Generic[Name]):
    """The growth of several counters within the last *window* seconds.

    What a counter held at the first look is not growth. A counter that falls was reset, and starts again.
    """

    def __init__(self, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.window = window
        self._clock = clock
        self._points: dict[Name, deque[tuple[float, int]]] = {}

    def of(self, counts: Mapping[Name, int]) -> dict[Name, int]:
        """Return the growth of each counter up to *counts*; forget counters that are not among them."""
        now = self._clock()
        self._points = {name: self._points.get(name, deque()) for name in counts}
        return {name: self._grown(self._points[name], now, count) for name, count in counts.items()}

    def _grown(self, points: deque[tuple[float, int]], now: float, count: int) -> int:
        """Return the growth since the last point that is as old as the window, or the oldest."""
        if points and count < points[-1][1]:
            points.clear()
        if not points or now - points[-1][0] >= self.window / STEPS:
            points.append((now, count))
        while len(points) > 1 and now - points[1][0] >= self.window:
            points.popleft()
        return count - points[0][1]
