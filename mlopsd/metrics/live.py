"""Families that the daemon writes to between two scrapes: aioprometheus' collectors, with their text kept.

A write costs a dictionary entry; aioprometheus' own books, keyed by JSON, are brought up to date when
the page is asked for, and only the series that were written to are written out again. Probes that run
in a thread of this process write from there, hence the locks.
"""

import math
import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import cast

from aioprometheus.collectors import Counter, Gauge, Histogram, Registry
from aioprometheus.histogram import Histogram as Buckets

from mlopsd.metrics.exposition import as_number, bound_text, encodable, number_text, series_text
from mlopsd.metrics.family import Family, Written

SERIES_PER_FAMILY = 1_000
"""More series in one family than this come from a label that is not bounded; the daemon's own labels
(routes by methods by codes, probes by results) and a probe's (results, phases) stay far below it."""

Key = tuple[str, ...]  # the label values, in the family's order


class Live(Written):
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
                self.version += 1

    def _write(self, key: Key, number: float) -> None:
        """Put *number* into the series *key* if that is there or there is room for it."""
        with self._lock:
            is_admitted = key in self._texts or len(self._texts) < SERIES_PER_FAMILY
            if is_admitted:
                self._texts.setdefault(key, "")
                self._take(key, number)
                self._changed[key] = None
                self.version += 1
        if not is_admitted:
            self._refused()

    @abstractmethod
    def _take(self, key: Key, number: float) -> None:
        """Make *number* part of the series *key*."""

    @abstractmethod
    def _written_out(self, key: Key) -> str:
        """The lines of the series *key*, after aioprometheus' books have been brought up to date."""

    def _drop(self, key: Key) -> None:
        del self._texts[key]
        self._changed.pop(key, None)
        self.drop(self._labels(key))

    def _labels(self, key: Key) -> dict[str, str]:
        return dict(zip(self.family.labels, map(encodable, key), strict=True))


class LiveNumber(Live):
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

    def _take(self, key: Key, number: float) -> None:
        self._numbers[key] = self._numbers.get(key, 0.0) + number


class LiveGauge(LiveNumber, Gauge):
    """A gauge."""

    def put(self, key: Key, value: float) -> None:
        """The series *key* is now *value*."""
        self._write(key, float(value))

    def _take(self, key: Key, number: float) -> None:
        self._numbers[key] = number


class LiveHistogram(Live, Histogram):
    """A histogram; its template holds the lines of one series up to their values."""

    def __init__(self, family: Family, registry: Registry, refused: Callable[[], None]) -> None:
        super().__init__(family, registry, refused)
        self._buckets: dict[Key, Buckets] = {}
        self._templates: dict[Key, str] = {}

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

    def _take(self, key: Key, number: float) -> None:
        if (buckets := self._buckets.get(key)) is not None:
            buckets.observe(number)
            return
        labels = self._labels(key)
        self.observe(labels, number)
        self._buckets[key] = cast("Buckets", self.get_value(labels))
        self._templates[key] = self._template(labels)

    def _written_out(self, key: Key) -> str:
        buckets = self._buckets[key]
        total = (buckets.observations, number_text(buckets.sum)) if self._has_total else ()
        return self._templates[key] % (*buckets.buckets.values(), *total)

    @property
    def _has_total(self) -> bool:
        """Where a bucket is below 0 OpenMetrics forbids the sum, which may fall, and with it the count."""
        return self.family.buckets[0] >= 0

    def _template(self, labels: dict[str, str]) -> str:
        bounds = (*self.family.buckets, math.inf)
        names = [
            series_text(f"{self.name}_bucket", (*labels.items(), ("le", bound_text(bound))))
            for bound in bounds
        ]
        if self._has_total:
            names += [series_text(f"{self.name}_{part}", labels.items()) for part in ("count", "sum")]
        return "".join(name.replace("%", "%%") + " %s\n" for name in names)

    def _drop(self, key: Key) -> None:
        super()._drop(key)
        del self._buckets[key], self._templates[key]
