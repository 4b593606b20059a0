"""The daemon's own metrics: collectors of aioprometheus, and the process's metrics from procfs.

Any thread may write to a collector. aioprometheus finds a series by the JSON of its labels, which costs
microseconds. A child caches that key, so that a write costs one dictionary access. Only the collectors
store the numbers.
"""

import math
import os
import resource
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

from aioprometheus.collectors import Counter, Gauge, Histogram, Registry

from mlopsd.metrics.exposition import as_number, bound_text, encodable, number_text, series_text
from mlopsd.metrics.families import PROCESS_FAMILIES, Family

SERIES_PER_FAMILY = 1_000
"""The limit of series in one family. Only an unbounded label exceeds it: the daemon's own labels (routes by
methods by codes, probes by results) and a probe's (results, phases) stay far below it."""

Key = tuple[str, ...]  # the label values of a series, in the family's order
Child = tuple[bytes, str]  # the key in the collector's values, and the lines with ``%s`` for each number
AT_MOST_EVERY = 1.0  # seconds; reading procfs takes 0.2 ms with cold caches


class Buckets:
    """The value of one series of a `Histogram`, with the attributes that aioprometheus reads.

    aioprometheus' own class adds an observation to every bucket above the value. This one adds it once.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = (*map(float, bounds), math.inf)
        self.counts = [0] * len(self.bounds)  # of each bucket alone
        self.observations = 0
        self.sum = 0.0

    @property
    def buckets(self) -> dict[float, int]:
        """Return the cumulative number of observations for each bound."""
        return dict(zip(self.bounds, accumulate(self.counts), strict=True))

    @property
    def has_sum(self) -> bool:
        """Return whether sum and count are shown: OpenMetrics forbids a sum that may decrease."""
        return self.bounds[0] >= 0

    def add(self, counts: Iterable[tuple[int, int]], total: float) -> None:
        """Add *counts* to the buckets by index, and *total* to the sum."""
        for place, count in counts:
            self.counts[place] += count
            self.observations += count
        self.sum += total
        if math.isinf(self.sum):  # an infinite sum would never change again
            self.sum = math.copysign(sys.float_info.max, self.sum)


class FamilyCollector:
    """A collector of aioprometheus for *family*, with a child for each series.

    *errors* counts the dropped writes; None if this is that collector itself.

    Attributes:
        family: The family.
        revision: Grows with each write.
    """

    def __init__(self, family: Family, registry: Registry, errors: "FamilyCollector | None") -> None:
        self.family = family
        self.revision = 0
        collector = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}[family.kind]
        self._collector = collector(family.name, family.help, registry=registry)
        self._values: dict[bytes, Any] = self._collector.values.store  # a number or `Buckets`
        self._errors = errors or self
        self._lock = threading.RLock()  # reentrant: the full errors family counts its own drops
        self._children: dict[Key, Child] = {}
        self._bounds: dict[str, tuple[float, ...]] = {}  # by the first label value

    def inc(self, key: Key, amount: float = 1) -> None:
        """Add *amount* to the series *key* of a counter.

        Raises:
            ValueError: *amount* is negative or not finite.
        """
        number = as_number(amount)
        if number is None or not 0 <= number < math.inf:
            raise ValueError(f"cannot add {amount!r} to {self.family.name}: only finite numbers from 0 up")
        with self._lock:
            if (child := self._child(key)) is not None:
                self._values[child[0]] += number
                self.revision += 1

    def set(self, key: Key, value: float) -> None:
        """Set the series *key* of a gauge to *value*."""
        with self._lock:
            if (child := self._child(key)) is not None and self._values[child[0]] != value:
                self._values[child[0]] = float(value)
                self.revision += 1

    def observe(self, key: Key, value: float) -> None:
        """Count *value* in its bucket of the series *key* of a histogram.

        Drop a value that is not finite: it belongs to no bucket and would spoil the sum.

        Raises:
            ValueError: *value* is not a number.
        """
        number = as_number(value)
        if number is None:
            raise ValueError(f"cannot observe {value!r} in {self.family.name}: it is not a number")
        if not math.isfinite(number):
            self._drop()
            return
        with self._lock:
            if (child := self._child(key)) is not None:
                buckets: Buckets = self._values[child[0]]
                buckets.add(((bisect_left(buckets.bounds, number), 1),), number)
                self.revision += 1

    def observe_counts(self, key: Key, counts: Sequence[int], total: float) -> None:
        """Add observations that were counted elsewhere to the series *key* of a histogram.

        Raises:
            ValueError: *counts* needs one count per bound and one above, none negative; *total* a finite sum.
        """
        needed = len(self._bounds_of(key)) + 1
        if len(counts) != needed or min(counts) < 0 or not math.isfinite(total):
            raise ValueError(
                f"cannot observe in {self.family.name}: {needed} counts from 0 up and a sum are needed"
            )
        with self._lock:
            if any(counts) and (child := self._child(key)) is not None:
                self._values[child[0]].add(enumerate(counts), total)
                self.revision += 1

    def set_bounds(self, probe: str, bounds: tuple[float, ...]) -> None:
        """Set the upper *bounds* of *probe*'s buckets; a change resets its series."""
        if self._bounds.get(probe, self.family.buckets) != bounds:
            self.forget(probe)
            self._bounds[probe] = bounds

    def forget(self, probe: str) -> None:
        """Remove every series of *probe*, if the family's first label is ``probe``."""
        if self.family.labels[:1] == ("probe",):
            with self._lock:
                for key in [key for key in self._children if key[0] == probe]:
                    self.remove(key)

    def remove(self, key: Key) -> None:
        """Remove the series *key* if it exists."""
        with self._lock:
            if (child := self._children.pop(key, None)) is not None:
                del self._values[child[0]]
                self.revision += 1

    def text(self) -> str:
        """Return the lines of every series."""
        with self._lock:
            return "".join([lines % _numbers(self._values[key]) for key, lines in self._children.values()])

    def _child(self, key: Key) -> Child | None:
        """Return the series *key*, opened if necessary; count a drop if the family is full."""
        if (child := self._children.get(key)) is None:
            key = tuple(map(encodable, key))
            child = self._children.get(key) or self._open(key)
        return child

    def _open(self, key: Key) -> Child | None:
        if len(self._children) >= SERIES_PER_FAMILY:
            self._drop()
            return None
        labels = dict(zip(self.family.labels, key, strict=True))
        value = Buckets(self._bounds_of(key)) if self.family.kind == "histogram" else 0.0
        self._collector.set_value(labels, value)
        child = self._children[key] = next(reversed(self._values)), self._lines(labels, value)
        self.revision += 1
        return child

    def _lines(self, labels: dict[str, str], value: float | Buckets) -> str:
        name, pairs = self.family.name, tuple(labels.items())
        series = [series_text(name, pairs)]
        if isinstance(value, Buckets):
            bounds = [(*pairs, ("le", bound_text(bound))) for bound in value.bounds]
            series = [series_text(f"{name}_bucket", labels_of_bucket) for labels_of_bucket in bounds]
            if value.has_sum:
                series += [series_text(f"{name}_count", pairs), series_text(f"{name}_sum", pairs)]
        return "".join(text.replace("%", "%%") + " %s\n" for text in series)

    def _bounds_of(self, key: Key) -> tuple[float, ...]:
        return self._bounds.get(key[0], self.family.buckets) if key else self.family.buckets

    def _drop(self) -> None:
        self._errors.inc(("metrics",))


def _numbers(value: float | Buckets) -> tuple[object, ...]:
    """Return the numbers of a series in the order of its lines."""
    if not isinstance(value, Buckets):
        return (number_text(value),)
    total = (value.observations, number_text(value.sum)) if value.has_sum else ()
    return *accumulate(value.counts), *total


class ProcessCollector:
    """The metrics of this process, read on a scrape, at most once a second on *clock*.

    Attributes:
        collectors: One for each number. A number that cannot be read is absent.
    """

    def __init__(
        self, open_family: Callable[[Family], FamilyCollector], clock: Callable[[], float], proc: Path
    ) -> None:
        self.collectors = list(map(open_family, PROCESS_FAMILIES))
        self._clock = clock
        self._proc = proc
        self._read_at = -math.inf
        self._booted = time.time() - time.clock_gettime(
            time.CLOCK_BOOTTIME
        )  # read once, so that it does not drift

    def refresh(self) -> None:
        """Read the numbers, unless that was done within the last second."""
        now = self._clock()
        if now - self._read_at < AT_MOST_EVERY:
            return
        self._read_at, read = now, self._read()
        for collector in self.collectors:
            if (number := read.get(collector.family.name)) is None:
                collector.remove(())
            else:
                collector.set((), number)

    def _read(self) -> Mapping[str, float]:
        """Read each number; omit those that are missing or not in the form of proc(5)."""
        read: dict[str, float] = {}
        for read_part in (self._stat, self._open_fds, self._max_fds):
            with suppress(OSError, ValueError, IndexError):
                read.update(read_part())
        return read

    def _stat(self) -> Iterator[tuple[str, float]]:
        fields = (self._proc / "stat").read_bytes().rpartition(b")")[2].split()  # from the third field
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        user, system, started, virtual, resident = (int(fields[place]) for place in (11, 12, 19, 20, 21))
        yield "process_cpu_seconds_total", (user + system) / ticks
        yield "process_start_time_seconds", self._booted + started / ticks
        yield "process_virtual_memory_bytes", virtual
        yield "process_resident_memory_bytes", resident * page

    def _open_fds(self) -> Iterator[tuple[str, float]]:
        yield "process_open_fds", len(list((self._proc / "fd").iterdir())) - 1  # one belongs to this listing

    def _max_fds(self) -> Iterator[tuple[str, float]]:
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most != resource.RLIM_INFINITY:
            yield "process_max_fds", most
