"""The pace of a download, which must not fall below a least rate."""

from asyncio import Timeout, timeout
from collections.abc import Callable, Mapping

WINDOWS = 2  # times the longest pause, so that a pause alone is not too slow


class Pace:
    """Ends the block of `idle` or `slow` if a download is idle or too slow.

    *min_rate* is in bytes per second, *idle_limit* in seconds; *now* is the clock of the loop.
    """

    def __init__(self, min_rate: int, idle_limit: float, now: Callable[[], float]) -> None:
        self._min_rate = min_rate
        self._idle_limit = idle_limit
        self._window = WINDOWS * idle_limit
        self._now = now
        self._alive: int | None = None
        self._since: tuple[float, int] | None = None
        self.idle: Timeout = timeout(idle_limit)
        self.slow: Timeout = timeout(None)

    def pulse(self, part: Mapping[str, int | None]) -> None:
        """Take a pulse of the download: its count ``alive``, and ``moved``, None before the first file."""
        if part["alive"] != self._alive and not self.idle.expired():
            self._alive = part["alive"]
            self.idle.reschedule(self._now() + self._idle_limit)
        if (moved := part["moved"]) is None:
            return
        began, before = self._since = self._since or (self._now(), moved)
        seconds = self._now() - began
        if seconds < self._window:
            return
        self._since = None
        if moved - before < self._min_rate * seconds and not self.slow.expired():
            self.slow.reschedule(self._now())

    def reason(self) -> str:
        """Return why the block ended."""
        if self.idle.expired():
            return f"no byte came for {self._idle_limit:g} s (fetch_idle_timeout)"
        least = f"{self._min_rate} bytes per second over {self._window:g} s"
        return f"the files came with less than {least} (fetch_min_rate)"
