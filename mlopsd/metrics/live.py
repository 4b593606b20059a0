"""Families that the daemon writes to between two scrapes: aioprometheus' collectors, with their text kept.

A write costs a dictionary entry; aioprometheus' own books, keyed by JSON, are brought up to date when
the page is asked for, and only the series that were written to are written out again. Probes that run
in a thread of this process write from there, hence the locks.
"""

import math
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aioprometheus.collectors import Counter, Gauge, Histogram, Registry
from aioprometheus.histogram import Histogram as Buckets

from mlopsd.metrics.exposition import as_number, bound_text, encodable, number_text, series_text
from mlopsd.metrics.family import Family, Written

SERIES_PER_FAMILY = 1_000
"""More series in one family than this come from a label that is not bounded; the daemon's own labels
(routes by methods by codes, probes by results) and a probe's (results, phases) stay far below it."""

Key = tuple[str, ...]  # the label values, in the family's order


@dataclass(frozen=True, slots=True)
class Counted:
    """Observations that were counted elsewhere: how many in each bucket alone, and the sum of them all."""

    counts: Sequence[int]
    total: float


AmountT = TypeVar("AmountT")


class Live(Written, Generic[AmountT]):
    """A family that is written to series by series. *refused* is called for each write that was dropped."""

    def __init__(self, family: Family, registry: Registry, refused: Callable[[], None]) -> None:
        more = {"buckets": family.buckets} if family.kind == "histogram" else {}
        super().__init__(family, registry, **more)
        self._refused = refused
        self._lock = threading.Lock()
        self._texts: dict[Key, str] = {}  # of every series, "" until it is written out
        self._changed: dict[Key, None] = {}

    def text(self) -> str:
        """The lines of every series, those that were written to since the last call anew."""
        with self._lock:
            for key in self._changed:
                self._texts[key] = self._written_out(key)
            self._changed.clear()
            return "".join(self._texts.values())

    def forget(self, label: str, value: str) -> None:
        """Drop the series whose *label* is *value*; nothing if the family has no such label."""
        if label not in self.family.labels:
            return
        place = self.family.labels.index(label)
        with self._lock:
            for key in [key for key in self._texts if key[place] == value]:
                self._drop(key)
                self.mark.set()

    def _write(self, key: Key, amount: AmountT) -> None:
        """Put *amount* into the series *key* if that is there or there is room for it."""
        with self._lock:
            is_admitted = key in self._texts or len(self._texts) < SERIES_PER_FAMILY
            if is_admitted:
                self._texts.setdefault(key, "")
                self._take(key, amount)
                self._changed[key] = None
                self.mark.set()
        if not is_admitted:
            self._refused()

    @abstractmethod
    def _take(self, key: Key, amount: AmountT) -> None:
        """Make *amount* part of the series *key*."""

    @abstractmethod
    def _written_out(self, key: Key) -> str:
        """The lines of the series *key*, after aioprometheus' books have been brought up to date."""

    def _drop(self, key: Key) -> None:
        del self._texts[key]
        self._changed.pop(key, None)
        self.drop(self._labels(key))

    def _labels(self, key: Key) -> dict[str, str]:
        return dict(zip(self.family.labels, map(encodable, key), strict=True))


class LiveNumber(Live[float]):
    """A family of single numbers."""

    def __init__(self, family: Family, registry: Registry, refused: Callable[[], None]) -> None:
        super().__init__(family, registry, refused)
        self._numbers: dict[Key, float] = {}
        self._series: dict[Key, tuple[dict[str, str], str]] = {}  # labels and the line up to its value

    def _written_out(self, key: Key) -> str:
        if (series := self._series.get(key)) is None:
            labels = self._labels(key)
            series = self._series[key] = labels, series_text(self.name, labels.items())
        self.keep(series[0], self._numbers[key])
        return f"{series[1]} {number_text(self._numbers[key])}\n"

    def _drop(self, key: Key) -> None:
        self._written_out(key)  # aioprometheus' books may not have it yet
        super()._drop(key)
        del self._numbers[key], self._series[key]


class LiveCounter(LiveNumber, Counter):
    """A counter."""

    def count(self, key: Key, amount: float = 1) -> None:
        """Add *amount* to the series *key*.

        Raises:
            ValueError: *amount* is negative, not finite, or not a number.
        """
        number = as_number(amount)
        if number is None or not 0 <= number < math.inf:
            raise ValueError(f"cannot add {amount!r} to {self.name}: only finite numbers from 0 up")
        self._write(key, number)

    def _take(self, key: Key, amount: float) -> None:
        self._numbers[key] = self._numbers.get(key, 0.0) + amount


class LiveGauge(LiveNumber, Gauge):
    """A gauge."""

    def put(self, key: Key, value: float) -> None:
        """The series *key* is now *value*."""
        self._write(key, float(value))

    def _take(self, key: Key, amount: float) -> None:
        self._numbers[key] = amount


class LiveHistogram(Live[float | Counted], Histogram):
    """A histogram; its template holds the lines of one series up to their values."""

    def __init__(self, family: Family, registry: Registry, refused: Callable[[], None]) -> None:
        super().__init__(family, registry, refused)
        self._bounds: dict[str, tuple[float, ...]] = {}  # of the series whose first label value it is
        self._buckets: dict[Key, Buckets] = {}
        self._templates: dict[Key, str] = {}

    def bound(self, first: str, bounds: tuple[float, ...]) -> None:
        """Series with *first* as their first label value have *bounds* from now on, and begin anew."""
        if self._bounds.get(first, self.family.buckets) != bounds:
            self.forget(self.family.labels[0], first)
            self._bounds[first] = bounds

    def note(self, key: Key, value: float) -> None:
        """Count *value* in its bucket of the series *key*.

        One that is not finite is dropped and reported: it belongs to no bucket, and the sum would be
        lost for good.

        Raises:
            ValueError: *value* is not a number.
        """
        number = as_number(value)
        if number is None:
            raise ValueError(f"cannot observe {value!r} in {self.name}: it is not a number")
        if math.isfinite(number):
            self._write(key, number)
        else:
            self._refused()

    def note_counts(self, key: Key, counts: Sequence[int], total: float) -> None:
        """Count in the series *key* what was counted elsewhere.

        Raises:
            ValueError: not one count for each bound and one beyond, a negative one, or a sum that is not
                finite.
        """
        needed = len(self._bounds_of(key)) + 1
        if len(counts) != needed or min(counts) < 0 or not math.isfinite(total):
            raise ValueError(f"cannot observe in {self.name}: {needed} counts from 0 up and a sum are needed")
        if any(counts):
            self._write(key, Counted(counts, total))

    def _bounds_of(self, key: Key) -> tuple[float, ...]:
        return self._bounds.get(key[0], self.family.buckets) if key else self.family.buckets

    def _take(self, key: Key, amount: float | Counted) -> None:
        buckets = self._buckets.get(key) or self._open(key)
        if isinstance(amount, Counted):
            _add(buckets, amount)
        else:
            buckets.observe(amount)
        buckets.sum = max(-sys.float_info.max, min(buckets.sum, sys.float_info.max))  # infinity would stay

    def _open(self, key: Key) -> Buckets:
        labels, bounds = self._labels(key), self._bounds_of(key)
        buckets = self._buckets[key] = Buckets(*bounds)
        self.values[labels] = buckets
        self._templates[key] = self._template(labels, bounds)
        return buckets

    def _written_out(self, key: Key) -> str:
        buckets = self._buckets[key]
        shows_total = _has_total(self._bounds_of(key))
        total = (buckets.observations, number_text(buckets.sum)) if shows_total else ()
        return self._templates[key] % (*buckets.buckets.values(), *total)

    def _template(self, labels: dict[str, str], bounds: tuple[float, ...]) -> str:
        names = [
            series_text(f"{self.name}_bucket", (*labels.items(), ("le", bound_text(bound))))
            for bound in (*bounds, math.inf)
        ]
        if _has_total(bounds):
            names += [series_text(f"{self.name}_{part}", labels.items()) for part in ("count", "sum")]
        return "".join(name.replace("%", "%%") + " %s\n" for name in names)

    def _drop(self, key: Key) -> None:
        super()._drop(key)
        del self._buckets[key], self._templates[key]


def _has_total(bounds: Sequence[float]) -> bool:
    """Where a bucket is below 0 OpenMetrics forbids the sum, which may fall, and with it the count."""
    return bounds[0] >= 0


def _add(buckets: Buckets, counted: Counted) -> None:
    """aioprometheus' buckets are cumulative."""
    below = 0
    for bound, count in zip(buckets.buckets, counted.counts, strict=True):
        below += count
        buckets.buckets[bound] += below
    buckets.observations += below
    buckets.sum += counted.total
