"""The requests that were answered, tallied one by one at little cost and put on the page together."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from mlopsd.metrics.live import LiveCounter, LiveHistogram
from mlopsd.metrics.own import REQUEST_SECONDS, method_label

REST = 0.1
"""Seconds: each scrape changes these families by itself, and would else have them written out again for
each of many scrapers."""
BOUNDS = REQUEST_SECONDS.buckets


@dataclass(slots=True)
class RequestTally:
    """How many requests took how long: in each bucket alone, and all together in seconds."""

    counts: list[int]
    total: float = 0.0


class Requests:
    """Written to on the event loop alone, hence without a lock; *clock* is a steady clock in seconds."""

    def __init__(self, number: LiveCounter, seconds: LiveHistogram, clock: Callable[[], float]) -> None:
        self.families = (number, seconds)
        self._number = number
        self._seconds = seconds
        self._clock = clock
        self._told_at = float("-inf")
        self._tallies: dict[tuple[str, str, int], RequestTally] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request to *route* was answered after *seconds*."""
        key = method, route, status
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = RequestTally([0] * (len(BOUNDS) + 1))
        tally.counts[bisect_left(BOUNDS, seconds)] += 1
        tally.total += seconds

    def refresh(self) -> None:
        """Put what was tallied since the last time on the page, if that is a while ago."""
        now = self._clock()
        if now - self._told_at < REST:
            return
        self._told_at = now
        tallies, self._tallies = self._tallies, {}
        for (method, route, status), tally in tallies.items():
            self._number.count((method_label(method), route, str(status)), sum(tally.counts))
            self._seconds.note_counts((route,), tally.counts, tally.total)
