"""The last half hour of the numbers that the status page draws, in memory of a fixed size.

A `Trend` has one point for each 30 s, so 60 points in 240 bytes. A daemon keeps at most `MOST_TRENDS` of
readings, which take about 220 kB. Each probe that predicts has four more and two histograms, about 2.6 kB.
"""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlopsd.probe import Sample, SubjectTable

if TYPE_CHECKING:
    from mlopsd.entry import Entry

SECONDS = 30.0  # of one point
POINTS = 60
MOST_TRENDS = 512  # of readings, over all probes; 64 GPUs with four columns have 256
MOST_ROWS = 64  # of one table
BOUNDS = tuple(0.0001 * 2 ** (step / 4) for step in range(79))  # seconds, 0.1 ms to 74 s: within a fifth
REFRESH = 5.0  # seconds; predictions change the page at most so often


class Trend:
    """One number over the last half hour. A point without a number is NaN."""

    __slots__ = ("_points", "_slot")

    def __init__(self) -> None:
        self._points = array("f", [math.nan]) * POINTS
        self._slot = 0

    def set(self, slot: int, value: float) -> None:
        """Set the point of *slot*, the newest one so far; the last value of a slot counts."""
        for passed in range(max(self._slot + 1, slot - POINTS + 1), slot):
            self._points[passed % POINTS] = math.nan
        self._points[slot % POINTS] = value
        self._slot = slot

    def points(self, slot: int) -> tuple[float, ...]:
        """Return the points up to *slot*, oldest first."""
        since = min(max(slot - self._slot, 0), POINTS)
        first = (self._slot + 1) % POINTS
        ordered = self._points[first:] + self._points[:first]
        return (*ordered[since:], *([math.nan] * since))


@dataclass(frozen=True, slots=True)
class Cell:
    """A number in a table, and its limit if it has one."""

    value: float
    limit: float | None = None


def cells(table: SubjectTable, samples: Iterable[Sample]) -> dict[str, dict[str, Cell]]:
    """Return the numbers of *samples* by row and title of the column. Leave out what is not a number."""
    return {row: _cells(found) for row, found in _numbers(table, samples).items()}


def _cells(found: Mapping[tuple[str, bool], float]) -> dict[str, Cell]:
    return {
        title: Cell(value, found.get((title, True)))
        for (title, is_limit), value in found.items()
        if not is_limit
    }


def _numbers(table: SubjectTable, samples: Iterable[Sample]) -> dict[str, dict[tuple[str, bool], float]]:
    """Return the numbers by row, then by the column's title and whether it is the limit."""
    wanted = _wanted(table)
    rows: dict[str, dict[tuple[str, bool], float]] = {}
    for sample in samples:
        for title, is_limit, where in wanted.get(sample.name, ()):
            labels = _labels(sample)
            is_meant = where.items() <= labels.items() and table.label in labels
            if is_meant and isinstance(sample.value, int | float) and math.isfinite(sample.value):
                rows.setdefault(labels[table.label], {})[title, is_limit] = sample.value
    return rows


def _labels(sample: Sample) -> dict[str, str]:
    """Return the labels of *sample*; none if third-party code made them in another form."""
    try:
        return dict(sample.labels)
    except (TypeError, ValueError):
        return {}


Wanted = Mapping[str, list[tuple[str, bool, Mapping[str, str]]]]


def _wanted(table: SubjectTable) -> Wanted:
    """Return the use of each metric: the column's title, whether it is the limit, and the other labels."""
    wanted: dict[str, list[tuple[str, bool, Mapping[str, str]]]] = {}
    for column in table.columns:
        wanted.setdefault(column.metric.name, []).append((column.title, False, column.where))
        if column.limit is not None:
            wanted.setdefault(column.limit.name, []).append((column.title, True, column.limit_where))
    return wanted


class Trends:
    """The trends of the numbers in readings. *clock* is a steady clock in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tables: Mapping[str, SubjectTable] = {}
        self._trends: dict[tuple[str, str, str], Trend] = {}  # by probe, row and title of the column

    def follow(self, tables: Mapping[str, SubjectTable]) -> None:
        """Record the probes with *tables*, by name, and no others."""
        kept = {probe for probe, table in tables.items() if self._tables.get(probe) == table}
        self._tables = tables
        self._trends = {key: trend for key, trend in self._trends.items() if key[0] in kept}

    def table(self, probe: str) -> SubjectTable | None:
        """Return the table of *probe*, or None without one."""
        return self._tables.get(probe)

    def record(self, entry: Entry) -> None:
        """Record the numbers of a new reading, and drop the trends of rows that had none for half an hour."""
        table = self._tables.get(entry.probe)
        if table is None:
            return
        slot = int(self._clock() // SECONDS)
        self._drop(entry.probe, slot)
        shown = [column.title for column in table.columns if column.has_trend]
        for row, found in cells(table, entry.reading.samples).items():
            for title in shown:
                if title in found:
                    self._set((entry.probe, row, title), slot, found[title].value)

    def _set(self, key: tuple[str, str, str], slot: int, value: float) -> None:
        trend = self._trends.get(key)
        if trend is None:
            if len(self._trends) >= MOST_TRENDS:
                return
            trend = self._trends[key] = Trend()
        trend.set(slot, value)

    def _drop(self, probe: str, slot: int) -> None:
        gone = [
            key
            for key, trend in self._trends.items()
            if key[0] == probe and all(map(math.isnan, trend.points(slot)))
        ]
        for key in gone:
            del self._trends[key]

    def points(self, probe: str, row: str, title: str) -> tuple[float, ...]:
        """Return the points of a number, oldest first; empty without a trend."""
        trend = self._trends.get((probe, row, title))
        return () if trend is None else trend.points(int(self._clock() // SECONDS))


@dataclass(frozen=True, slots=True)
class PredictorFigures:
    """The predictions of one probe.

    Attributes:
        rate: The requests per second over the last 30 to 60 s.
        errors: The failed requests of the last half hour.
        p50, p99: The duration that half, and 99 of 100 requests, do not exceed, over the last 30 to 60 s;
            None without a request.
        trends: The points of requests per second, errors, p50 and p99, by the names above.
    """

    rate: float
    errors: int
    p50: float | None
    p99: float | None
    trends: Mapping[str, tuple[float, ...]]


class PredictorTraffic:
    """The predictions of one probe since *slot*, at *now* seconds of the clock."""

    def __init__(self, now: float) -> None:
        self._began = now  # of the current slot
        self._slot = int(now // SECONDS)
        self._counts = array("I", [0]) * (len(BOUNDS) + 1)
        self._before = self._counts[:]  # of the slot before
        self._before_seconds = 0.0
        self._errors = 0
        self._trends = {name: Trend() for name in ("rate", "errors", "p50", "p99")}

    def observe(self, now: float, seconds: float, *, has_failed: bool) -> None:
        """Count a request that ended after *seconds*."""
        self._advance(now)
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._errors += has_failed

    def figures(self, now: float) -> PredictorFigures:
        """Return the figures at *now*."""
        self._advance(now)
        seconds = self._before_seconds + now - self._began
        counts = [sum(pair) for pair in zip(self._before, self._counts, strict=True)]
        errors = self._trends["errors"].points(self._slot)
        return PredictorFigures(
            rate=sum(counts) / max(seconds, 1.0),
            errors=self._errors + int(sum(count for count in errors if not math.isnan(count))),
            p50=quantile(counts, 0.5),
            p99=quantile(counts, 0.99),
            trends={name: trend.points(self._slot - 1) for name, trend in self._trends.items()},
        )

    def _advance(self, now: float) -> None:
        """Close the slots before the one of *now*."""
        slot = int(now // SECONDS)
        if slot == self._slot:
            return
        self._close(self._slot, (self._slot + 1) * SECONDS - self._began)
        for idle in range(max(self._slot + 1, slot - POINTS), slot):
            self._close(idle, SECONDS)
        self._slot, self._began = slot, slot * SECONDS

    def _close(self, slot: int, seconds: float) -> None:
        figures = {"rate": sum(self._counts) / max(seconds, 1.0), "errors": self._errors}
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            if (value := quantile(self._counts, share)) is not None:
                figures[name] = value
        for name, value in figures.items():
            self._trends[name].set(slot, value)
        self._before, self._before_seconds = self._counts, seconds
        self._counts = array("I", [0]) * len(self._before)
        self._errors = 0


class Traffic:
    """The predictions of every probe, as this daemon answered them. Use it on the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._probes: dict[str, PredictorTraffic] = {}
        self._requests = 0
        self._shown = (0, -math.inf)

    def follow(self, probes: Iterable[str]) -> None:
        """Count for exactly *probes*; keep the figures of those that are known."""
        now = self._clock()
        self._probes = {name: self._probes.get(name) or PredictorTraffic(now) for name in probes}

    def observe(self, probe: str, seconds: float, *, has_failed: bool) -> None:
        """Count a request to *probe* that ended after *seconds*."""
        if (known := self._probes.get(probe)) is not None:
            known.observe(self._clock(), seconds, has_failed=has_failed)
            self._requests += 1

    def figures(self, probe: str) -> PredictorFigures | None:
        """Return the figures of *probe*, or None if it does not predict."""
        known = self._probes.get(probe)
        return None if known is None else known.figures(self._clock())

    @property
    def edition(self) -> int:
        """Return a number that changes with the figures, at most every `REFRESH` seconds."""
        requests, at = self._shown
        if requests != self._requests and self._clock() - at >= REFRESH:
            self._shown = self._requests, self._clock()
        return self._shown[0]


def quantile(counts: Iterable[int], share: float) -> float | None:
    """Return the seconds that *share* of the requests do not exceed, or None without requests."""
    listed = list(counts)
    wanted, passed = share * sum(listed), 0
    for place, count in enumerate(listed):
        if count and passed + count >= wanted:
            upper = BOUNDS[min(place, len(BOUNDS) - 1)]
            lower = BOUNDS[place - 1] if place else 0.0
            return lower + max(upper - lower, 0.0) * (wanted - passed) / count
        passed += count
    return None


def drawn(points: Iterable[float]) -> Iterator[list[tuple[int, float]]]:
    """Yield each run of *points* without a gap, as place and value."""
    run: list[tuple[int, float]] = []
    for place, value in enumerate(points):
        if not math.isnan(value):
            run.append((place, value))
        elif run:
            yield run
            run = []
    if run:
        yield run
