"""How long something held within a window, for what flickers."""

from collections import deque


class Sustained:
    """Seconds within the last *window* seconds in which something held, by looks at it.

    What a look finds counts for the time since the look before; the first look counts for none.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self.spans: deque[tuple[float, float, bool]] = deque()
        self.last: float | None = None

    def seen(self, at: float, *, holds: bool) -> float:
        """The seconds in which it held, after a look *at* a moment of a steady clock that found it so."""
        if self.last is not None:
            went_on = bool(self.spans) and self.spans[-1][2] == holds
            start = self.spans.pop()[0] if went_on else self.last
            self.spans.append((start, at, holds))
        self.last = at
        while self.spans and self.spans[0][1] <= at - self.window:
            self.spans.popleft()
        return sum(end - max(start, at - self.window) for start, end, held in self.spans if held)
